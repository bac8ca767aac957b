/*
 * process.c - one line of /proc.
 */
#include "common/process.h"

#include <stdio.h>
#include <unistd.h>

uint64_t process_resident_bytes(void)
{
    unsigned long long pages, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL) {
        return 0;
    }
    if (fscanf(f, "%llu %llu", &pages, &resident) != 2) {
        resident = 0;
    }
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
