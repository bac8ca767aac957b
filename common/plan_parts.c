/*
 * plan_parts.c - bytes of the model's parts and of a worker's buffers; dealing items to workers.
 *
 * Sizes are those of the packed layouts, padding included, so a plan's bytes are what a worker
 * allocates. Configurations are not trusted: sums and products stop at 2^62, which fits nowhere.
 */
#include "common/plan_parts.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/options.h"

#include <math.h>
#include <string.h>

static const uint64_t bytes_limit = (uint64_t)1 << 62;

enum {
    HEADER_BYTES = 64 << 10,             /* of a message, beside its rows */
    LIST_BYTES = (1 << 20) + (64 << 10), /* of messages, and what lines of 64 bytes leave over */
    LOGIT_BYTES =
        20, /* in its row, and as id, value and both together in a shortlist of them all */
    LOGIT_MESSAGE_BYTES = 9,          /* the same in a message: id and value, packed */
    MESSAGES_OUT = 16,                /* that may be under way at a time */
    THREAD_SCRATCH_BYTES = 256 << 10, /* scores, quantised rows and the like of one thread */
};

uint64_t plan_add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) || sum > bytes_limit ? bytes_limit : sum;
}

uint64_t plan_times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) || product > bytes_limit ? bytes_limit : product;
}

/* a * b * n_bytes of an array [a][b]. */
static uint64_t array_bytes(int64_t a, int64_t b, uint64_t n_bytes)
{
    return a <= 0 || b <= 0 ? 0 : plan_times(plan_times((uint64_t)a, (uint64_t)b), n_bytes);
}

uint64_t plan_matrix_bytes(int64_t rows, int64_t columns)
{
    if (rows <= 0 || columns <= 0) {
        return 0;
    }
    int64_t panels = rows / PANEL_ROWS + (rows % PANEL_ROWS != 0);
    return plan_times(array_bytes(panels, PANEL_ROWS, 1),
                      array_bytes(columns / 2 + columns % 2, 2, sizeof(uint16_t)));
}

uint64_t plan_array_bytes(int64_t a, int64_t b, uint64_t n_bytes)
{
    uint64_t bytes = array_bytes(a, b, n_bytes);
    return plan_times(bytes / ARENA_ALIGN + (bytes % ARENA_ALIGN != 0), ARENA_ALIGN);
}

uint64_t plan_kv_token_bytes(const model_config *m, int32_t n_layers)
{
    return plan_times(array_bytes(m->text.n_kv_heads, m->text.head_dim, 2 * sizeof(float)),
                      (uint64_t)n_layers);
}

static uint64_t attention_bytes(const text_config *t)
{
    int64_t h = t->hidden_size;
    int64_t q = (int64_t)t->n_heads * t->head_dim;
    int64_t kv = (int64_t)t->n_kv_heads * t->head_dim;
    uint64_t norms = plan_times(2, plan_add(plan_array_bytes(1, h, sizeof(float)),
                                            plan_array_bytes(1, t->head_dim, sizeof(float))));
    uint64_t qkv = plan_matrix_bytes(q + 2 * kv, h); /* one matrix */
    return plan_add(plan_add(qkv, plan_matrix_bytes(h, q)), norms);
}

/* gate, up [size][H], panels in turn, and down [H][size]. */
static uint64_t swiglu_bytes(int64_t h, int64_t size)
{
    return plan_add(plan_times(2, plan_matrix_bytes(size, h)), plan_matrix_bytes(h, size));
}

void plan_parts_of(plan_parts *parts, const model_config *m)
{
    const text_config *t = &m->text;
    int64_t h = t->hidden_size;
    *parts = (plan_parts){
        .attention = attention_bytes(t),
        .router = plan_matrix_bytes(t->n_experts, h),
        .expert = t->n_experts > 0 ? swiglu_bytes(h, t->expert_size) : 0,
        .dense = swiglu_bytes(h, t->dense_size),
        .embedding = plan_array_bytes(t->vocab_size, h, sizeof(uint16_t)),
        .final_norm = plan_array_bytes(1, h, sizeof(float)),
        .grain =
            plan_matrix_bytes(t->vocab_size < LM_HEAD_GRAIN ? t->vocab_size : LM_HEAD_GRAIN, h),
        .n_grains = t->vocab_size / LM_HEAD_GRAIN + (t->vocab_size % LM_HEAD_GRAIN != 0),
        .active_share = t->n_experts > 0 ? (double)t->n_experts_per_token / t->n_experts : 0.0,
    };
}

int32_t plan_grain_rows(const model_config *m, int32_t first, int32_t n)
{
    int64_t begin = (int64_t)first * LM_HEAD_GRAIN;
    int64_t end = begin + (int64_t)n * LM_HEAD_GRAIN;
    end = end < m->text.vocab_size ? end : m->text.vocab_size;
    return (int32_t)(end > begin ? end - begin : 0);
}

/* The home's matrices of a sparse layer. */
static uint64_t sparse_bytes(const text_config *t)
{
    int64_t h = t->hidden_size;
    uint64_t shared =
        plan_add(swiglu_bytes(h, t->shared_expert_size), plan_matrix_bytes(1, h)); /* its gate */
    return plan_add(plan_matrix_bytes(t->n_experts, h), t->shared_expert_size > 0 ? shared : 0);
}

uint64_t plan_layers_bytes(const text_config *t, int32_t first_layer, int32_t n_layers, bool home,
                           int32_t n_experts)
{
    int64_t h = t->hidden_size;
    uint64_t experts = plan_times(swiglu_bytes(h, t->expert_size), (uint64_t)n_experts);
    uint64_t sparse = sparse_bytes(t), dense = swiglu_bytes(h, t->dense_size);
    uint64_t attention = attention_bytes(t), sum = 0;
    for (int32_t i = first_layer; i < first_layer + n_layers; i++) {
        bool is_sparse = t->layer_is_sparse[i] && t->n_experts > 0;
        sum = plan_add(sum, home ? plan_add(attention, is_sparse ? sparse : dense) : 0);
        sum = plan_add(sum, is_sparse ? experts : 0);
    }
    return sum;
}

uint64_t plan_thinker_bytes(const model_config *m, const plan_worker *w)
{
    plan_parts parts;
    plan_parts_of(&parts, m);
    uint64_t n = plan_matrix_bytes(w->n_vocab_rows, m->text.hidden_size);
    n = plan_add(
        n, plan_layers_bytes(&m->text, w->first_layer, w->n_layers, w->place == 0, w->n_experts));
    n = plan_add(n, w->has_embedding ? parts.embedding : 0);
    return plan_add(n, w->has_final_norm ? parts.final_norm : 0);
}

/* The buffers of a worker */

static bool has_dense_layer(const text_config *t)
{
    for (int32_t i = 0; i < t->n_layers; i++) {
        if (!t->layer_is_sparse[i]) {
            return true;
        }
    }
    return false;
}

typedef struct term_list {
    plan_work_term *terms;
    int32_t n;
} term_list;

static void term(term_list *l, const char *name, uint64_t n_bytes)
{
    if (n_bytes > 0) {
        CHECK(l->n < PLAN_WORK_TERMS_MAX);
        l->terms[l->n++] = (plan_work_term){name, n_bytes};
    }
}

/* f32 [STEP_ROWS_MAX][width] */
static uint64_t rows_bytes(int64_t width)
{
    return array_bytes(STEP_ROWS_MAX, width, sizeof(float));
}

/* What the home computes in: one layer at a time, so nothing here grows with the layers. */
static void home_terms(term_list *l, const model_config *m)
{
    const text_config *t = &m->text;
    int64_t h = t->hidden_size;
    term(l, "hidden rows", rows_bytes(h));
    term(l, "normed rows", rows_bytes(h));
    term(l, "queries", rows_bytes((int64_t)t->n_heads * t->head_dim));
    term(l, "keys and values", rows_bytes((int64_t)t->n_kv_heads * t->head_dim * 2));
    term(l, "attention out", rows_bytes((int64_t)t->n_heads * t->head_dim));
    term(l, "block result", rows_bytes(h));
    term(l, "cosines and sines", rows_bytes(t->head_dim));
    term(l, "router", rows_bytes((int64_t)t->n_experts + 4 * (int64_t)t->n_experts_per_token));
    if (has_dense_layer(t)) {
        int64_t padded = ((int64_t)t->dense_size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
        term(l, "dense gate and up", rows_bytes(2 * padded));
        term(l, "dense products", rows_bytes(t->dense_size));
        term(l, "dense rows", rows_bytes(2 * h));
    }
    if (m->has_vision) {
        term(l, "deep-stack rows", rows_bytes((int64_t)m->vision.n_deepstack * h));
    }
}

/* Rows grouped by owned expert: a token's row is there once for each of its experts that lives
 * here. Gate and up are whole panels of 64 columns. */
static void expert_terms(term_list *l, const text_config *t, int32_t n_owned)
{
    int64_t copies = n_owned < t->n_experts_per_token ? n_owned : t->n_experts_per_token;
    int64_t padded = ((int64_t)t->expert_size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    term(l, "grouped rows", rows_bytes(copies * t->hidden_size));
    term(l, "grouped gate and up", rows_bytes(2 * copies * padded));
    term(l, "grouped products", rows_bytes(copies * t->expert_size));
    term(l, "grouped results", rows_bytes(copies * t->hidden_size));
    term(l, "results by row", rows_bytes(copies * t->hidden_size));
}

/* Slots that messages are packed into and arrive in. */
static void message_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const model_config *m = r->model;
    const text_config *t = &m->text;
    int64_t h = t->hidden_size;
    int32_t n_stages = plan_request_stages(r);
    int64_t n_peers = plan_dealt_size(r->n_workers, n_stages, w->stage) - 1;
    int64_t n_deep = m->has_vision ? m->vision.n_deepstack : 0;
    int64_t k = t->n_experts_per_token;
    int64_t copies = r->deterministic ? k : 1;
    term(l, "lists", plan_add(LIST_BYTES, rows_bytes(4 * (k + 2))));
    if (w->place == 0) {
        if (t->n_experts > 0) {
            term(l, "choices of each worker",
                 plan_times((uint64_t)(n_peers + 1), rows_bytes(5 + 2 * k)));
        }
        term(l, "results of peers", n_peers > 0 ? rows_bytes(k * h) : 0);
        uint64_t activations = plan_add(rows_bytes(h * (1 + n_deep)), HEADER_BYTES);
        term(l, "activations in", plan_times(2, activations));
        term(l, "activations out", w->stage < n_stages - 1 ? activations : 0);
        uint64_t choice = plan_add(rows_bytes(2 * k), HEADER_BYTES);
        term(l, "expert rows out", array_bytes(n_peers, 1, plan_add(rows_bytes(h), choice)));
        term(l, "expert rows back",
             array_bytes(n_peers, 1, plan_add(rows_bytes(h * copies), HEADER_BYTES)));
    } else {
        term(l, "expert rows in", plan_times(2, plan_add(rows_bytes(h), HEADER_BYTES)));
        term(l, "expert rows out", plan_add(rows_bytes(h * copies), HEADER_BYTES));
    }
    if (w->stage == n_stages - 1) { /* computed, and in the message that carries them */
        term(l, "rows for the LM head", rows_bytes(h));
        /* Each row of the vocabulary costs every owner the same: plan.c deals them by that price.
         */
        term(l, "logits",
             array_bytes(PLAN_LOGIT_ROWS, w->n_vocab_rows, LOGIT_BYTES + LOGIT_MESSAGE_BYTES));
        if (w->place == 0) { /* ids, values, sums of grains, and a sort of two */
            term(l, "logits merged",
                 array_bytes(4 * PLAN_LOGIT_ROWS + 2, t->vocab_size, sizeof(float)));
            term(l, "logits out", array_bytes(PLAN_LOGIT_ROWS, t->vocab_size, LOGIT_MESSAGE_BYTES));
        }
    }
}

/* Jobs, and the messages that bring their input and carry their results. */
static void encoder_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const model_config *m = r->model;
    if (w->has_audio_encoder) {
        term(l, "sounds", plan_audio_region_bytes(&m->audio));
    }
    if (w->has_vision_encoder) {
        int64_t patches = plan_vision_patches_max(r, r->kv_tokens);
        term(l, "pictures", plan_vision_region_bytes(&m->vision, patches));
    }
    if (w->has_audio_encoder || w->has_vision_encoder) {
        int64_t n_deep = m->has_vision ? m->vision.n_deepstack : 0;
        int64_t row = (int64_t)m->text.hidden_size * (1 + n_deep);
        uint64_t part = plan_add(array_bytes(row, 1, sizeof(float)), EMBEDDINGS_PART_BYTES);
        term(l, "media in", ENCODE_PART_BYTES);
        term(l, "embeddings out",
             plan_times(part < rows_bytes(row) ? part : rows_bytes(row), MESSAGES_OUT));
    }
}

int32_t plan_work_terms(plan_work_term terms[PLAN_WORK_TERMS_MAX], const plan_request *r,
                        const plan_worker *w)
{
    term_list l = {.terms = terms};
    if (w->place == 0) {
        home_terms(&l, r->model);
    }
    if (w->n_experts > 0) {
        expert_terms(&l, &r->model->text, w->n_experts);
    }
    message_terms(&l, r, w);
    encoder_terms(&l, r, w);
    term(&l, "load staging", PLAN_STAGING_BYTES);
    int32_t n_threads = r->workers != NULL && w->rank >= 1 ? r->workers[w->rank - 1].n_threads : 0;
    term(&l, "threads", array_bytes(n_threads, 1, THREAD_SCRATCH_BYTES));
    return l.n;
}

uint64_t plan_work_bytes(const plan_request *r, const plan_worker *w)
{
    plan_work_term terms[PLAN_WORK_TERMS_MAX];
    int32_t n = plan_work_terms(terms, r, w);
    uint64_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum = plan_add(sum, terms[i].n_bytes);
    }
    return sum;
}

/* A picture as it is decoded (4 bytes a pixel), as RGB, and resized. */
static uint64_t preparation_bytes(const plan *p, const plan_request *r)
{
    int64_t pixels = r->media_pixels_max > 0 ? r->media_pixels_max : MEDIA_PIXELS_MAX;
    const vision_config *v = &r->model->vision;
    uint64_t resized =
        array_bytes(p->vision_patches_max, 3 * (int64_t)v->patch_size * v->patch_size, 1);
    return plan_vision_worker(p) != NULL ? plan_add(array_bytes(pixels, 4 + 3, 1), resized) : 0;
}

uint64_t plan_coordinator_bytes(const plan *p, const plan_request *r)
{
    const text_config *t = &r->model->text;
    uint64_t vocabulary = array_bytes(t->vocab_size, 256, 1); /* tokens, merges, their indexes */
    uint64_t logits = array_bytes(PLAN_LOGIT_ROWS, t->vocab_size, 2 * sizeof(float));
    uint64_t text =
        plan_add(plan_add(vocabulary, logits), plan_times(4, rows_bytes(t->hidden_size)));
    uint64_t media = plan_add(plan_encoder_cache_bytes(r->model, p), preparation_bytes(p, r));
    return plan_add(text, media);
}

/* Dealing */

int32_t plan_request_stages(const plan_request *r)
{
    if (r->n_stages != 0) {
        return r->n_stages;
    }
    int32_t n_layers = r->model->text.n_layers;
    return r->n_workers < n_layers ? r->n_workers : n_layers;
}

int32_t plan_dealt_size(int32_t n_workers, int32_t n_stages, int32_t stage)
{
    return n_workers / n_stages + (stage < n_workers % n_stages);
}

int32_t plan_dealt_first(int32_t n_workers, int32_t n_stages, int32_t stage)
{
    int32_t more = n_workers % n_stages;
    return stage * (n_workers / n_stages) + (stage < more ? stage : more);
}

/* What worker w has done by time t, within its bounds. */
static int32_t done_by(double t, double speed, int32_t least, int32_t most)
{
    double n = floor(t * speed);
    return n < least ? least : n > most ? most : (int32_t)n;
}

static int64_t all_done_by(double t, int32_t n_workers, int32_t least, const int32_t *most,
                           const double *speed)
{
    int64_t n = 0;
    for (int32_t w = 0; w < n_workers; w++) {
        n += done_by(t, speed[w], least, most[w]);
    }
    return n;
}

/* Who would have one more item done first; -1 where nobody has room. */
static int32_t next_taker(const int32_t *out, int32_t n_workers, const int32_t *most,
                          const double *speed, bool last_first)
{
    int32_t best = -1;
    double best_time = INFINITY;
    for (int32_t w = 0; w < n_workers; w++) {
        double time = (out[w] + 1) / speed[w];
        if (out[w] < most[w] && (time < best_time || (last_first && time <= best_time))) {
            best = w;
            best_time = time;
        }
    }
    return best;
}

/* A bisection for the time at which not quite all is done, then the few items left one by one:
 * exact, at 60 passes over the workers however many items there are. */
bool plan_deal(int32_t *out, int32_t n_workers, int32_t n_items, int32_t least, const int32_t *most,
               const double *speed, bool last_first)
{
    int64_t room = 0;
    double slowest = INFINITY;
    for (int32_t w = 0; w < n_workers; w++) {
        if (most[w] < least) {
            return false;
        }
        room += most[w];
        slowest = speed[w] < slowest ? speed[w] : slowest;
    }
    if (room < n_items || (int64_t)least * n_workers > n_items) {
        return false;
    }

    double early = 0.0;
    double late = ((double)n_items + 1.0) / slowest;
    for (int32_t i = 0; i < 60; i++) {
        double t = (early + late) / 2;
        if (all_done_by(t, n_workers, least, most, speed) <= n_items) {
            early = t;
        } else {
            late = t;
        }
    }
    int64_t left = n_items;
    for (int32_t w = 0; w < n_workers; w++) {
        out[w] = done_by(early, speed[w], least, most[w]);
        left -= out[w];
    }
    for (; left > 0; left--) {
        out[next_taker(out, n_workers, most, speed, last_first)]++;
    }
    return true;
}

/* Speeds */

static bool are_alike(const plan_worker_facts *a, const plan_worker_facts *b)
{
    return a->n_threads == b->n_threads && strcmp(a->host, b->host) == 0;
}

/* Mean bandwidth of the workers like w on its host: they measure side by side, and disturb each
 * other. */
static double mean_of_alike(const plan_worker_facts *workers, int32_t n_workers, int32_t w)
{
    double sum = 0.0;
    int32_t n = 0;
    for (int32_t i = 0; i < n_workers; i++) {
        double gb = workers[i].read_gb_per_s;
        if (isfinite(gb) && gb > 0.0 && are_alike(&workers[i], &workers[w])) {
            sum += gb;
            n++;
        }
    }
    return n > 0 ? sum / n : 0.0;
}

/* The largest speed below `over`; 0 for none. */
static double largest_below(const double *speed, int32_t n_workers, double over)
{
    double best = 0.0;
    for (int32_t w = 0; w < n_workers; w++) {
        best = speed[w] < over && speed[w] > best ? speed[w] : best;
    }
    return best;
}

void plan_speeds(double *speed, const plan_worker_facts *workers, int32_t n_workers)
{
    double sum = 0.0;
    int32_t n = 0;
    for (int32_t w = 0; w < n_workers; w++) {
        speed[w] = mean_of_alike(workers, n_workers, w);
        sum += speed[w];
        n += speed[w] > 0.0;
    }
    double mean = n > 0 ? sum / n : 1.0;

    /* From the fastest down: all within 15 % below it are its equals. */
    double scale = 0.0;
    for (int32_t w = 0; w < n_workers; w++) {
        speed[w] = speed[w] > 0.0 ? speed[w] : mean;
        scale = speed[w] > scale ? speed[w] : scale;
    }
    for (double top = scale; top > 0.0; top = largest_below(speed, n_workers, top)) {
        for (int32_t w = 0; w < n_workers; w++) {
            speed[w] = speed[w] < top && speed[w] * 1.15 >= top ? top : speed[w];
        }
    }
    for (int32_t w = 0; w < n_workers; w++) {
        speed[w] /= scale;
    }
}
