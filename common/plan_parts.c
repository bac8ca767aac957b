/*
 * plan_parts.c - bytes of the thinker's parts; who holds a part; dealing items to workers.
 *
 * Sizes are those of the packed layouts, padding included, so a plan's bytes are what a worker
 * allocates. Configurations are not trusted: sums and products stop at 2^62, which fits nowhere.
 */
#include "common/plan_parts.h"

#include "common/arena.h"
#include "common/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WEIGHT_TEXT_MAX = 32 };

static const uint64_t bytes_limit = (uint64_t)1 << 62;

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

uint64_t plan_buffer_bytes(int64_t a, int64_t b, uint64_t n_bytes)
{
    return a <= 0 || b <= 0 ? 0 : plan_times(plan_times((uint64_t)a, (uint64_t)b), n_bytes);
}

uint64_t plan_matrix_bytes(int64_t rows, int64_t columns)
{
    if (rows <= 0 || columns <= 0) {
        return 0;
    }
    int64_t panels = rows / PANEL_ROWS + (rows % PANEL_ROWS != 0);
    return plan_times(plan_buffer_bytes(panels, PANEL_ROWS, 1),
                      plan_buffer_bytes(columns / 2 + columns % 2, 2, sizeof(uint16_t)));
}

uint64_t plan_array_bytes(int64_t a, int64_t b, uint64_t n_bytes)
{
    uint64_t bytes = plan_buffer_bytes(a, b, n_bytes);
    return plan_times(bytes / ARENA_ALIGN + (bytes % ARENA_ALIGN != 0), ARENA_ALIGN);
}

uint64_t plan_kv_token_bytes(const model_config *m, int32_t n_layers)
{
    return plan_times(plan_buffer_bytes(m->text.n_kv_heads, m->text.head_dim, 2 * sizeof(float)),
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

/* The parts that are whole on a worker */

const char *plan_part_name(plan_part part)
{
    static const char *const names[PART_COUNT] = {"audio_encoder", "vision_encoder", "talker",
                                                  "code_predictor", "code2wav"};
    CHECK((size_t)part < PART_COUNT);
    return names[part];
}

bool *plan_part_flag(plan_worker *w, plan_part part)
{
    bool *const flags[PART_COUNT] = {&w->has_audio_encoder, &w->has_vision_encoder, &w->has_talker,
                                     &w->has_code_predictor, &w->has_code2wav};
    CHECK((size_t)part < PART_COUNT);
    return flags[part];
}

bool plan_has_part(const plan_worker *w, plan_part part)
{
    const bool has[PART_COUNT] = {w->has_audio_encoder, w->has_vision_encoder, w->has_talker,
                                  w->has_code_predictor, w->has_code2wav};
    CHECK((size_t)part < PART_COUNT);
    return has[part];
}

bool plan_part_is_speech(plan_part part)
{
    return part >= PART_TALKER;
}

bool plan_model_has_part(const model_config *m, plan_part part)
{
    bool speaks = m->has_talker && m->has_code2wav;
    return part == PART_AUDIO ? m->has_audio : part == PART_VISION ? m->has_vision : speaks;
}

bool plan_wants_part(const plan_request *r, plan_part part)
{
    bool left_out = plan_part_is_speech(part) ? r->no_speech : r->no_media;
    return plan_model_has_part(r->model, part) && !left_out;
}

const char *plan_part_host(const plan_request *r, plan_part part)
{
    const char *const hosts[PART_COUNT] = {r->audio_host, r->vision_host, r->talker_host,
                                           r->predictor_host, r->code2wav_host};
    CHECK((size_t)part < PART_COUNT);
    return hosts[part];
}

uint64_t plan_media_saved_bytes(const plan_request *r)
{
    return r->no_media ? plan_add(plan_audio_bytes(r->model), plan_vision_bytes(r->model)) : 0;
}

uint64_t plan_speech_saved_bytes(const plan_request *r)
{
    plan_worker all = {.has_talker = true, .n_talker_experts = r->model->talker.n_experts};
    if (!r->no_speech || !plan_model_has_part(r->model, PART_TALKER)) {
        return 0;
    }
    return plan_add(plan_talker_bytes(r->model, &all),
                    plan_add(plan_predictor_bytes(r->model), plan_code2wav_bytes(r->model)));
}

/* "7.1 GB": decimal, as the weights of models are given. */
static void weight_print(char text[WEIGHT_TEXT_MAX], uint64_t n_bytes)
{
    bool giga = n_bytes >= 1000000000;
    snprintf(text, WEIGHT_TEXT_MAX, "%.1f %s", (double)n_bytes * (giga ? 1e-9 : 1e-6),
             giga ? "GB" : "MB");
}

const char *plan_saved_print(char text[PLAN_SAVED_TEXT_MAX], const plan_request *r)
{
    uint64_t speech = plan_speech_saved_bytes(r), media = plan_media_saved_bytes(r);
    char weight[WEIGHT_TEXT_MAX];
    text[0] = '\0';
    if (speech > 0) {
        weight_print(weight, speech);
        snprintf(text, PLAN_SAVED_TEXT_MAX, "without speech: %s less%s", weight,
                 media > 0 ? "; " : "");
    }
    if (media > 0) {
        size_t used = strlen(text);
        weight_print(weight, media);
        snprintf(text + used, PLAN_SAVED_TEXT_MAX - used, "without encoders: %s less", weight);
    }
    return text;
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

/* The common case, workers that are as fast as each other and all have room: an equal share, and of
 * what is left one each to the first (or last) ones. False where it is another case. */
static bool deal_equally(int32_t *out, int32_t n_workers, int32_t n_items, const int32_t *most,
                         const double *speed, bool last_first)
{
    int32_t share = n_items / n_workers, left = n_items % n_workers;
    for (int32_t w = 0; w < n_workers; w++) {
        int32_t before = last_first ? n_workers - 1 - w : w;
        out[w] = share + (before < left);
        if (speed[w] != speed[0] || out[w] > most[w]) {
            return false;
        }
    }
    return true;
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
    if (deal_equally(out, n_workers, n_items, most, speed, last_first)) {
        return true;
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
