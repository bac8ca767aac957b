/*
 * media_desk.c - preparations on threads, jobs by key, and their messages.
 *
 * A thread touches only the preparation it took; the lists in between stand under one lock. A job
 * belongs to nobody: parts of any orders wait for it, and it is cancelled when none is left.
 */
#include "coordinator/media/media_desk.h"

#include "common/cancel.h"
#include "proto/plan_message.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PREPARE_THREADS = 2,
    DECODE_THREADS_MAX = 8,
    JOBS_AHEAD = 3, /* announced to an encoder and not done: two it works on, one to go on with */
    ENCODERS = 2,
};

typedef struct preparation {
    media_order *order; /* NULL: dropped */
    media_set *set;
    media_rules rules;
    bool waits_for_room;
    flo_code code;
    flo_err err;
    struct preparation *next;
} preparation;

typedef struct waiter {
    media_order *order;
    media_part *part;
    struct waiter *next;
} waiter;

typedef struct encode_job {
    uint64_t id;
    media_part part; /* copy of the first waiter's, whose input it borrows */
    encoded *result; /* filled as rows come */
    int32_t n_rows;  /* that have come */
    bool announced, cancelled;
    bool wanted;                 /* its encoder has room for its input */
    uint64_t n_elements, n_sent; /* of the input */
    float share;
    waiter *waiters;
    struct encode_job *next; /* in order of arrival */
} encode_job;

typedef struct encoder_line { /* one encoder's rank and what is on its way there */
    int rank;                 /* 0: this job has none */
    int32_t n_announced;
    media_order *last_served;
} encoder_line;

struct media_desk {
    media_desk_setup setup;
    media_house house;
    float levels[3][256];
    size_t part_bytes;
    encoder_cache *cache;
    uint64_t next_job;
    encode_job *jobs;
    encoder_line lines[ENCODERS]; /* audio, vision */
    media_order *orders;          /* that wait for encoders */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;
    pthread_t threads[PREPARE_THREADS];
    int n_threads;
    preparation *waiting, **waiting_end, *running, *finished;
    int64_t n_held; /* tokens of prepared sets that wait for room, until they are dropped */
    bool stop;
};

/* --- preparing, on threads ---------------------------------------------------------------------
 */

/* Whether the next preparation may begin. Those that run already are not counted: each may add as
 * many tokens as the KV cache holds. */
static bool may_begin(const media_desk *d)
{
    return d->waiting != NULL && (!d->waiting->waits_for_room || d->n_held < d->house.tokens_max);
}

static preparation *take_waiting(media_desk *d)
{
    preparation *p = d->waiting;
    d->waiting = p->next;
    if (d->waiting == NULL) {
        d->waiting_end = &d->waiting;
    }
    p->next = d->running;
    d->running = p;
    return p;
}

static void unlink_running(media_desk *d, const preparation *p)
{
    for (preparation **at = &d->running; *at != NULL; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            return;
        }
    }
}

static int64_t count_tokens(const media_set *s)
{
    int64_t n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        n += s->items[i].layout.n_tokens;
    }
    return n;
}

static void *prepare_thread(void *arg)
{
    media_desk *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        if (!may_begin(d)) {
            pthread_cond_wait(&d->wake, &d->lock);
            continue;
        }
        preparation *p = take_waiting(d);
        pthread_mutex_unlock(&d->lock);
        p->code = media_prepare(p->set, &d->house, &p->rules, &p->err);
        pthread_mutex_lock(&d->lock);
        unlink_running(d, p);
        if (p->code == FLO_OK && p->waits_for_room) {
            p->set->n_held = count_tokens(p->set);
            d->n_held += p->set->n_held;
        }
        p->next = d->finished;
        d->finished = p;
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

flo_code media_desk_prepare(media_desk *d, media_order *o, flo_err *err)
{
    preparation *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the media of a request");
    }
    p->order = o;
    p->set = o->set;
    p->rules = o->rules;
    p->waits_for_room = o->waits_for_room;
    o->preparation = p;
    pthread_mutex_lock(&d->lock);
    *d->waiting_end = p;
    d->waiting_end = &p->next;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    return FLO_OK;
}

static preparation *take_finished(media_desk *d)
{
    pthread_mutex_lock(&d->lock);
    preparation *p = d->finished;
    d->finished = NULL;
    pthread_mutex_unlock(&d->lock);
    return p;
}

static void free_set(media_desk *d, media_set *s)
{
    pthread_mutex_lock(&d->lock);
    d->n_held -= s->n_held;
    pthread_cond_broadcast(&d->wake);
    pthread_mutex_unlock(&d->lock);
    media_set_free(s);
}

static void hand_back(media_desk *d, preparation *p)
{
    media_order *o = p->order;
    if (o == NULL) {
        free_set(d, p->set);
    } else {
        o->preparation = NULL;
        o->on_prepared(o, p->code, &p->err);
    }
    free(p);
}

/* --- jobs --------------------------------------------------------------------------------------
 */

static encoder_line *line_of(media_desk *d, const media_part *part)
{
    return &d->lines[part->kind == MEDIA_AUDIO ? 0 : 1];
}

static encode_job *find_job(media_desk *d, const encoder_key *key)
{
    for (encode_job *j = d->jobs; j != NULL; j = j->next) {
        if (!j->cancelled && memcmp(&j->part.key, key, sizeof *key) == 0) {
            return j;
        }
    }
    return NULL;
}

static uint64_t input_elements(const media_desk *d, const media_part *p)
{
    if (p->kind == MEDIA_AUDIO) {
        return (uint64_t)d->setup.model->audio.n_mel_bins * (uint64_t)p->n_frames;
    }
    uint64_t patch = (uint64_t)d->setup.model->vision.patch_size;
    return (uint64_t)p->n_frames * (uint64_t)p->grid_h * patch * (uint64_t)p->grid_w * patch * 3;
}

static int32_t deep_sets(const media_desk *d, const media_part *p)
{
    return p->kind == MEDIA_AUDIO ? 0 : d->setup.model->vision.n_deepstack;
}

static encode_job *add_job(media_desk *d, const media_part *part)
{
    encode_job *j = calloc(1, sizeof *j), **end = &d->jobs;
    encoded *result = j == NULL ? NULL
                                : encoded_new(&part->key, part->n_rows,
                                              d->setup.model->text.hidden_size, deep_sets(d, part));
    if (result == NULL) {
        free(j);
        return NULL;
    }
    j->id = d->next_job++;
    j->part = *part;
    j->result = result;
    j->n_elements = input_elements(d, part);
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = j;
    return j;
}

static void remove_job(media_desk *d, encode_job *j)
{
    for (encode_job **at = &d->jobs; *at != NULL; at = &(*at)->next) {
        if (*at == j) {
            *at = j->next;
            break;
        }
    }
    for (waiter *w = j->waiters, *next; w != NULL; w = next) {
        next = w->next;
        free(w);
    }
    encoded_release(j->result);
    free(j);
}

static bool wait_for(encode_job *j, media_order *o, media_part *part)
{
    waiter *w = malloc(sizeof *w), **end = &j->waiters;
    if (w == NULL) {
        return false;
    }
    *w = (waiter){o, part, NULL};
    if (j->waiters == NULL) {
        j->part = *part; /* lends its input */
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = w;
    return true;
}

/* Nobody waits for it any more. */
static void abandon_job(media_desk *d, encode_job *j)
{
    if (!j->announced) {
        remove_job(d, j);
        return;
    }
    Flo__EncodeCancel m = FLO__ENCODE_CANCEL__INIT;
    m.epoch = d->setup.epoch;
    m.job = j->id;
    j->cancelled = true; /* goes when the encoder says so */
    transport_send(d->setup.transport, line_of(d, &j->part)->rank, LANE_MAIN, MSG_ENCODE_CANCEL,
                   &m.base);
}

/* --- orders ------------------------------------------------------------------------------------
 */

static void give_result(media_set *s, media_part *part, encoded *e)
{
    part->result = e;
    s->n_ready++;
}

static flo_code order_part(media_desk *d, media_order *o, media_part *part, flo_err *err)
{
    encoded *known = encoder_cache_find(d->cache, &part->key);
    if (known != NULL) {
        o->set->n_from_cache++;
        give_result(o->set, part, known);
        return FLO_OK;
    }
    encode_job *j = find_job(d, &part->key);
    j = j != NULL ? j : add_job(d, part);
    return j != NULL && wait_for(j, o, part)
               ? FLO_OK
               : flo_fail(err, FLO_FAIL, "out of memory for the rows of %d tokens of media",
                          part->n_rows);
}

static flo_code check_encoders(const media_desk *d, const media_set *s, flo_err *err)
{
    for (int32_t i = 0; i < s->n; i++) {
        int line = s->items[i].kind == MEDIA_AUDIO ? 0 : 1;
        if (d->lines[line].rank == 0) {
            return flo_fail(err, FLO_USAGE,
                            "the request has a %s, and this job was started with --no-media",
                            media_kind_name(s->items[i].kind));
        }
    }
    return FLO_OK;
}

static void leave_jobs(media_desk *d, const media_order *o)
{
    for (encode_job *j = d->jobs, *next; j != NULL; j = next) {
        next = j->next;
        for (waiter **at = &j->waiters; *at != NULL;) {
            waiter *w = *at;
            if (w->order == o) {
                *at = w->next;
                free(w);
            } else {
                at = &w->next;
            }
        }
        if (j->waiters == NULL && !j->cancelled) {
            abandon_job(d, j);
        } else if (j->waiters != NULL) {
            j->part = *j->waiters->part; /* the one that goes may have lent its input */
        }
    }
}

static void unlink_order(media_desk *d, const media_order *o)
{
    for (media_order **at = &d->orders; *at != NULL; at = &(*at)->next) {
        if (*at == o) {
            *at = o->next;
            break;
        }
    }
    for (int i = 0; i < ENCODERS; i++) {
        d->lines[i].last_served = d->lines[i].last_served == o ? NULL : d->lines[i].last_served;
    }
}

flo_code media_desk_encode(media_desk *d, media_order *o, flo_err *err)
{
    flo_code code = check_encoders(d, o->set, err);
    o->next = d->orders;
    d->orders = o;
    for (int32_t i = 0; i < o->set->n && code == FLO_OK; i++) {
        media_item *item = &o->set->items[i];
        for (int32_t k = 0; k < item->n_parts && code == FLO_OK; k++) {
            code = order_part(d, o, &item->parts[k], err);
        }
    }
    if (code == FLO_OK && o->set->n_ready == o->set->n_parts) {
        d->orders = o->next;
        o->on_encoded(o);
    } else if (code != FLO_OK) {
        unlink_order(d, o);
        leave_jobs(d, o);
    }
    return code;
}

void media_desk_drop(media_desk *d, media_order *o)
{
    preparation *p = o->preparation;
    media_set *s = o->set;
    if (s == NULL) {
        return;
    }
    o->set = NULL;
    o->preparation = NULL;
    if (p != NULL) { /* a thread has it, or will: hand_back frees it */
        cancel_set(&s->cancelled);
        p->order = NULL;
        return;
    }
    unlink_order(d, o);
    leave_jobs(d, o);
    free_set(d, s);
}

/* --- to the encoders ---------------------------------------------------------------------------
 */

static void announce(media_desk *d, encoder_line *line, encode_job *j)
{
    Flo__EncodeJob m = FLO__ENCODE_JOB__INIT;
    m.epoch = d->setup.epoch;
    m.job = j->id;
    m.n_frames = (uint32_t)j->part.n_frames;
    if (j->part.kind == MEDIA_AUDIO) {
        m.kind = FLO__ENCODE_JOB__KIND__AUDIO;
        m.canvas = (uint32_t)j->part.canvas;
    } else {
        m.kind = FLO__ENCODE_JOB__KIND__VISION;
        m.grid_h = (uint32_t)j->part.grid_h;
        m.grid_w = (uint32_t)j->part.grid_w;
        m.levels = &d->levels[0][0];
        m.n_levels = 3 * 256;
    }
    transport_send(d->setup.transport, line->rank, LANE_MAIN, MSG_ENCODE_JOB, &m.base);
    j->announced = true;
    line->n_announced++;
}

/* Elements [first, first + n) of a part's input, in the order in which they travel. */
static void copy_input(void *out, const media_part *p, uint64_t first, uint64_t n)
{
    if (p->kind != MEDIA_AUDIO) {
        memcpy(out, (const uint8_t *)p->input + first, n);
        return;
    }
    const float *features = p->input;
    uint64_t columns = (uint64_t)p->n_frames;
    for (uint64_t i = first; i < first + n;) {
        uint64_t column = i % columns, run = columns - column;
        run = run < first + n - i ? run : first + n - i;
        memcpy((float *)out + (i - first), features + i / columns * p->row_floats + column,
               run * sizeof(float));
        i += run;
    }
}

static void send_input(media_desk *d, const encoder_line *line, encode_job *j)
{
    bool is_sound = j->part.kind == MEDIA_AUDIO;
    uint64_t size = is_sound ? sizeof(float) : 1, n = j->n_elements - j->n_sent;
    n = n < d->part_bytes / size ? n : d->part_bytes / size;
    Flo__Tensor tensor = FLO__TENSOR__INIT;
    tensor.dtype = is_sound ? FLO__DTYPE__F32 : FLO__DTYPE__U8;
    tensor.order = FLO__BYTE_ORDER__LITTLE;
    tensor.shape = &n;
    tensor.n_shape = 1;
    Flo__EncodeInput m = FLO__ENCODE_INPUT__INIT;
    m.epoch = d->setup.epoch;
    m.job = j->id;
    m.first = j->n_sent;
    m.part = &tensor;
    copy_input(transport_payload(d->setup.transport, n * size), &j->part, j->n_sent, n);
    transport_send(d->setup.transport, line->rank, LANE_MAIN, MSG_ENCODE_INPUT, &m.base);
    j->n_sent += n;
}

/* A job whose encoder waits for its input; NULL: none. */
static encode_job *wanted_job(const media_desk *d, const encoder_line *line)
{
    for (encode_job *j = d->jobs; j != NULL; j = j->next) {
        bool here = &d->lines[j->part.kind == MEDIA_AUDIO ? 0 : 1] == line;
        if (here && j->wanted && !j->cancelled && j->n_sent < j->n_elements) {
            return j;
        }
    }
    return NULL;
}

/* The oldest job of this line that an order waits for and that is not announced; NULL: none. */
static encode_job *next_of(const media_desk *d, const encoder_line *line, const media_order *o)
{
    for (encode_job *j = d->jobs; j != NULL; j = j->next) {
        if (j->announced || &d->lines[j->part.kind == MEDIA_AUDIO ? 0 : 1] != line) {
            continue;
        }
        for (const waiter *w = j->waiters; w != NULL; w = w->next) {
            if (w->order == o) {
                return j;
            }
        }
    }
    return NULL;
}

/* Orders take turns: the next is the one behind the last that was served. */
static encode_job *choose_job(const media_desk *d, encoder_line *line)
{
    media_order *start = line->last_served != NULL ? line->last_served->next : NULL;
    for (int round = 0; round < 2; round++) {
        for (media_order *o = round == 0 ? start : d->orders; o != NULL; o = o->next) {
            encode_job *j = next_of(d, line, o);
            if (j != NULL) {
                line->last_served = o;
                return j;
            }
        }
    }
    return NULL;
}

static void pump_line(media_desk *d, encoder_line *line, bool *busy)
{
    while (transport_has_slot(d->setup.transport)) {
        encode_job *j = wanted_job(d, line);
        if (j != NULL) {
            send_input(d, line, j);
        } else if (line->n_announced < JOBS_AHEAD && (j = choose_job(d, line)) != NULL) {
            announce(d, line, j);
        } else {
            return;
        }
        *busy = true;
    }
}

void media_desk_pump(media_desk *d, bool *busy)
{
    for (preparation *p = take_finished(d), *next; p != NULL; p = next) {
        next = p->next;
        *busy = true;
        hand_back(d, p);
    }
    for (int i = 0; i < ENCODERS && d->jobs != NULL; i++) {
        pump_line(d, &d->lines[i], busy);
    }
}

bool media_desk_has_jobs(const media_desk *d)
{
    return d->jobs != NULL;
}

/* --- from the encoders -------------------------------------------------------------------------
 */

static encode_job *job_of(media_desk *d, uint64_t epoch, uint64_t id, const incoming *in)
{
    for (encode_job *j = d->jobs; j != NULL && epoch == d->setup.epoch; j = j->next) {
        if (j->id == id && j->announced && line_of(d, &j->part)->rank == in->source) {
            return j;
        }
    }
    return NULL;
}

static flo_code stray(const incoming *in, uint64_t id, flo_err *err)
{
    return flo_fail(err, FLO_FAIL, "rank %d sent a %s of job %llu, which it was not given",
                    in->source, message_kind_name(in->kind), (unsigned long long)id);
}

/* How far an order is: parts that are there, and shares of those that are being made. */
static void tell_progress(media_desk *d, media_order *o)
{
    double share = o->set->n_ready;
    for (const encode_job *j = d->jobs; j != NULL; j = j->next) {
        for (const waiter *w = j->waiters; w != NULL; w = w->next) {
            share += w->order == o ? (double)j->share : 0;
        }
    }
    share /= o->set->n_parts;
    if (o->on_progress != NULL && share != o->told_share) {
        o->told_share = share;
        o->on_progress(o, share);
    }
}

flo_code media_desk_on_progress(media_desk *d, const incoming *in, flo_err *err)
{
    const Flo__EncodeProgress *m = in->as.encode_progress;
    encode_job *j = job_of(d, m->epoch, m->job, in);
    if (j == NULL) {
        return stray(in, m->job, err);
    }
    j->wanted = true;
    j->share = m->share >= 0 && m->share <= 1 ? m->share : j->share;
    for (const waiter *w = j->waiters; w != NULL; w = w->next) {
        tell_progress(d, w->order);
    }
    return FLO_OK;
}

/* Rows of one message into the result. */
static flo_code take_rows(media_desk *d, encode_job *j, const incoming *in, flo_err *err)
{
    const Flo__Embeddings *m = in->as.embeddings;
    encoded *e = j->result;
    const void *payload =
        in->payload_bytes > 0 ? transport_take_payload(d->setup.transport, in, NULL) : NULL;
    uint64_t n = m->rows != NULL && m->rows->n_shape == 2 ? m->rows->shape[0] : 0;
    if (n == 0 || m->first != (uint32_t)j->n_rows || n > (uint64_t)(e->n_rows - j->n_rows) ||
        m->n_deep != (size_t)e->n_deep) {
        return flo_fail(err, FLO_FAIL, "rank %d sent rows of a medium out of order", in->source);
    }
    size_t columns = (size_t)e->n_columns;
    for (int32_t k = 0; k <= e->n_deep; k++) {
        const void *rows;
        flo_code code =
            transport_tensor(k == 0 ? m->rows : m->deep[k - 1], FLO__DTYPE__F32, n * columns,
                             payload, in->payload_bytes, "rows of a medium", &rows, err);
        if (code != FLO_OK) {
            return code;
        }
        float *to = e->rows + ((size_t)k * (size_t)e->n_rows + (size_t)j->n_rows) * columns;
        memcpy(to, rows, n * columns * sizeof *to);
    }
    j->n_rows += (int32_t)n;
    if (m->last != (j->n_rows == e->n_rows)) {
        return flo_fail(err, FLO_FAIL, "rank %d sent %d rows of a medium that has %d", in->source,
                        j->n_rows, e->n_rows);
    }
    return FLO_OK;
}

/* The result to all that wait for it; orders that have everything now leave the desk. */
static void finish_job(media_desk *d, encode_job *j)
{
    encoder_cache_keep(d->cache, j->result);
    for (waiter *w = j->waiters; w != NULL; w = w->next) {
        j->result->n_users++;
        give_result(w->order->set, w->part, j->result);
    }
    waiter *waiters = j->waiters;
    j->waiters = NULL;
    remove_job(d, j);
    for (waiter *w = waiters, *next; w != NULL; w = next) {
        media_order *o = w->order;
        bool last_of_order = true;
        next = w->next;
        for (const waiter *other = next; other != NULL; other = other->next) {
            last_of_order = last_of_order && other->order != o;
        }
        free(w);
        if (last_of_order && o->set->n_ready == o->set->n_parts) {
            unlink_order(d, o);
            o->on_encoded(o);
        } else if (last_of_order) {
            tell_progress(d, o);
        }
    }
}

flo_code media_desk_on_embeddings(media_desk *d, const incoming *in, flo_err *err)
{
    const Flo__Embeddings *m = in->as.embeddings;
    encode_job *j = job_of(d, m->epoch, m->job, in);
    if (j == NULL || (m->cancelled && !j->cancelled)) {
        return stray(in, m->job, err);
    }
    bool over = m->cancelled || m->last;
    flo_code code = m->cancelled ? FLO_OK : take_rows(d, j, in, err);
    if (code != FLO_OK || !over) {
        return code;
    }
    line_of(d, &j->part)->n_announced--;
    if (j->cancelled) {
        remove_job(d, j);
    } else {
        finish_job(d, j);
    }
    return FLO_OK;
}

/* --- coming and going --------------------------------------------------------------------------
 */

static void find_encoders(media_desk *d)
{
    const plan_worker *hearing = plan_audio_worker(d->setup.plan);
    const plan_worker *sight = plan_vision_worker(d->setup.plan);
    d->lines[0].rank = hearing != NULL ? hearing->rank : 0;
    d->lines[1].rank = sight != NULL ? sight->rank : 0;
}

static int32_t decode_threads(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > DECODE_THREADS_MAX ? DECODE_THREADS_MAX : (int32_t)n;
}

static flo_code start_threads(media_desk *d, flo_err *err)
{
    while (d->n_threads < PREPARE_THREADS) {
        if (pthread_create(&d->threads[d->n_threads], NULL, prepare_thread, d) != 0) {
            return flo_fail(err, FLO_FAIL, "the system gives no thread to read media with");
        }
        d->n_threads++;
    }
    return FLO_OK;
}

flo_code media_desk_new(media_desk **out, const media_desk_setup *setup, flo_err *err)
{
    media_desk *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the media desk");
    }
    d->setup = *setup;
    d->house = (media_house){.model = setup->model,
                             .preprocessor = setup->preprocessor,
                             .tokens_max = setup->plan->kv_tokens,
                             .patches_max = setup->plan->vision_patches_max,
                             .pixels_max = setup->pixels_max,
                             .n_threads = decode_threads()};
    d->part_bytes = plan_encode_part_bytes(setup->model, setup->plan);
    d->next_job = 1;
    d->waiting_end = &d->waiting;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wake, NULL);
    preprocessor_levels(d->levels, setup->preprocessor);
    find_encoders(d);
    flo_code code = encoder_cache_new(&d->cache, setup->cache_bytes, err);
    if (code == FLO_OK) {
        code = start_threads(d, err);
    }
    if (code != FLO_OK) {
        media_desk_free(d);
        return code;
    }
    *out = d;
    return FLO_OK;
}

static void free_preparations(preparation *p)
{
    for (preparation *next; p != NULL; p = next) {
        next = p->next;
        if (p->order == NULL) {
            media_set_free(p->set);
        }
        free(p);
    }
}

void media_desk_free(media_desk *d)
{
    if (d == NULL) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    for (preparation *p = d->running; p != NULL; p = p->next) {
        cancel_set(&p->set->cancelled);
    }
    pthread_cond_broadcast(&d->wake);
    pthread_mutex_unlock(&d->lock);
    for (int i = 0; i < d->n_threads; i++) {
        pthread_join(d->threads[i], NULL);
    }
    free_preparations(d->waiting);
    free_preparations(d->finished);
    while (d->jobs != NULL) {
        remove_job(d, d->jobs);
    }
    encoder_cache_free(d->cache);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    free(d);
}
