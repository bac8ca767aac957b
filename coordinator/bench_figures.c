/*
 * bench_figures.c - medians, as single runs on a shared machine say little.
 */
#include "coordinator/bench_figures.h"

#include "common/check.h"

#include <stdlib.h>

void series_add(series *s, double value)
{
    CHECK(s->n < BENCH_REPEAT_MAX);
    s->values[s->n++] = value;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double series_median(series *s)
{
    if (s->n == 0) {
        return 0;
    }
    qsort(s->values, (size_t)s->n, sizeof s->values[0], by_value);
    return s->n % 2 == 1 ? s->values[s->n / 2]
                         : (s->values[s->n / 2 - 1] + s->values[s->n / 2]) / 2;
}

void series_put(cJSON *to, const char *name, series *s)
{
    cJSON *j = cJSON_AddObjectToObject(to, name);
    cJSON_AddNumberToObject(j, "median", series_median(s));
    cJSON_AddNumberToObject(j, "min", s->n > 0 ? s->values[0] : 0);
    cJSON_AddNumberToObject(j, "max", s->n > 0 ? s->values[s->n - 1] : 0);
}
