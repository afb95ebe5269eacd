#define _GNU_SOURCE
#include "camera.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void queue_put(Queue *queue, Buffer *buffer) {
    buffer->waiting = NULL;
    if (queue->last) queue->last->waiting = buffer; else queue->first = buffer;
    queue->last = buffer;
    queue->length++;
}

Buffer *queue_take(Queue *queue) {
    Buffer *buffer = queue->first;
    if (!buffer) return NULL;
    queue->first = buffer->waiting;
    if (!queue->first) queue->last = NULL;
    queue->length--;
    return buffer;
}

size_t buffer_bytes(const Buffer *buffer) {
    size_t whole = image_bytes(&buffer->shape);
    if (buffer->incomplete) return whole / 2;
    return buffer->has_chunks ? chunked_bytes(&buffer->shape, buffer->chunks) : whole;
}

void buffer_free(Buffer *buffer) {
    if (buffer->owned) free(buffer->base);
    free(buffer);
}

static int64_t get(const Camera *camera, int at) {
    int64_t value;
    memcpy(&value, camera->memory + at, sizeof value);
    return value;
}

static double get_float(const Camera *camera, int at) {
    double value;
    memcpy(&value, camera->memory + at, sizeof value);
    return value;
}

static void put(Camera *camera, int at, int64_t value) { memcpy(camera->memory + at, &value, sizeof value); }
static void put_float(Camera *camera, int at, double value) { memcpy(camera->memory + at, &value, sizeof value); }
static void put_text(Camera *camera, int at, const char *text) {
    snprintf((char *)camera->memory + at, 64, "%s", text);
}

static void power_on(Camera *camera) {
    const Film *film = camera->film;
    uint32_t native = film->bits == 8 ? F_MONO8 : film->bits == 10 ? F_MONO10 : film->bits == 12 ? F_MONO12 : F_MONO16;
    put(camera, R_DEVICETLTYPE, film->transport);
    put(camera, R_WIDTHMAX, film->width);
    put(camera, R_HEIGHTMAX, film->height);
    put(camera, R_WIDTH, film->width);
    put(camera, R_HEIGHT, film->height);
    put(camera, R_PIXELFORMAT, native);
    put_float(camera, R_EXPOSURETIME, 20.0);
}

void camera_init(Camera *camera, Film *film, const char *id, const char *serial) {
    *camera = (Camera){.film = film};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&camera->lock, NULL);
    pthread_cond_init(&camera->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    put_text(camera, R_DEVICEVENDORNAME, "Foilsight");
    put_text(camera, R_DEVICEMODELNAME, "StrobedCamera");
    put_text(camera, R_DEVICESERIALNUMBER, serial);
    put_text(camera, R_DEVICEID, id);
    power_on(camera);
}

void camera_forget_buffers(Camera *camera) {
    for (Buffer *next, *buffer = camera->announced; buffer; buffer = next) {
        next = buffer->next;
        buffer_free(buffer);
    }
    camera->announced = NULL;
    camera->announced_count = 0;
    camera->input = camera->output = (Queue){0};
}

void camera_free(Camera *camera) {
    camera_stop(camera);
    camera_forget_buffers(camera);
    pthread_cond_destroy(&camera->changed);
    pthread_mutex_destroy(&camera->lock);
    film_close(camera->film);
}

bool camera_is_lost(const Camera *camera) {
    return film_faults(camera->film, film_trigger_at(camera->film, now_ns()), -1).on[DEVICE_LOST];
}

Shape camera_shape(const Camera *camera) {
    return (Shape){format_of(get(camera, R_PIXELFORMAT)), (uint32_t)get(camera, R_WIDTH),
                   (uint32_t)get(camera, R_HEIGHT), camera->film->padding_bytes};
}

size_t camera_payload(const Camera *camera) {
    Shape shape = camera_shape(camera);
    return get(camera, R_CHUNKMODEACTIVE) ? chunked_bytes(&shape, camera->chunks) : image_bytes(&shape);
}

GC_ERROR camera_read(Camera *camera, uint64_t address, void *to, size_t size) {
    if (size > MEMORY_BYTES || address > MEMORY_BYTES - size) return GC_ERR_INVALID_ADDRESS;
    if (camera_is_lost(camera)) return GC_ERR_IO;
    pthread_mutex_lock(&camera->lock);
    put(camera, R_PAYLOADSIZE, (int64_t)camera_payload(camera));
    put(camera, R_CHUNKENABLE, camera->chunks >> get(camera, R_CHUNKSELECTOR) & 1);
    memcpy(to, camera->memory + address, size);
    pthread_mutex_unlock(&camera->lock);
    return GC_ERR_SUCCESS;
}

static void save_set(Camera *camera, int64_t number) {
    camera->set[number].exposure_us = get_float(camera, R_EXPOSURETIME);
    camera->set[number].gain_db = get_float(camera, R_GAIN);
    camera->set[number].outputs = get(camera, R_USEROUTPUTVALUEALL);
    camera->set[number].next = get(camera, R_SEQUENCERSETNEXT);
    camera->set[number].advance = get(camera, R_SEQUENCERTRIGGERSOURCE);
}

static void load_set(Camera *camera, int64_t number) {
    put_float(camera, R_EXPOSURETIME, camera->set[number].exposure_us);
    put_float(camera, R_GAIN, camera->set[number].gain_db);
    put(camera, R_USEROUTPUTVALUEALL, camera->set[number].outputs);
    put(camera, R_SEQUENCERSETNEXT, camera->set[number].next);
    put(camera, R_SEQUENCERTRIGGERSOURCE, camera->set[number].advance);
}

static bool acceptable(const Camera *camera, uint64_t address, int64_t value) {
    const Film *film = camera->film;
    const Format *format = format_of(value);
    switch (address) {
    case R_WIDTH: return value >= 16 && value <= film->width && value % 4 == 0;
    case R_HEIGHT: return value >= 8 && value <= film->height;
    case R_PIXELFORMAT: return format && (format->packing != PAIRS || film->transport == GEV);
    case R_SEQUENCERSETSELECTOR: case R_SEQUENCERSETNEXT: case R_SEQUENCERSETSTART: return value >= 0 && value < SETS;
    case R_CHUNKSELECTOR: return value >= 0 && value < CHUNKS;
    default: return true;
    }
}

/* What says how large a buffer must be stays as it is while buffers are filled. */
static bool locked(const Camera *camera, uint64_t address) {
    switch (address) {
    case R_WIDTH: case R_HEIGHT: case R_PIXELFORMAT: case R_CHUNKMODEACTIVE: case R_CHUNKENABLE:
        return camera->grabbing;
    default: return false;
    }
}

GC_ERROR camera_write(Camera *camera, uint64_t address, const void *from, size_t size) {
    int64_t value;
    if (size != sizeof value || address % size || address > MEMORY_BYTES - size) return GC_ERR_INVALID_ADDRESS;
    if (camera_is_lost(camera)) return GC_ERR_IO;
    memcpy(&value, from, size);
    if (!acceptable(camera, address, value)) return GC_ERR_INVALID_PARAMETER;
    if (locked(camera, address)) return GC_ERR_ACCESS_DENIED;
    pthread_mutex_lock(&camera->lock);
    put(camera, (int)address, value);
    uint32_t chunk = 1u << get(camera, R_CHUNKSELECTOR);
    if (address == R_CHUNKENABLE) camera->chunks = value ? camera->chunks | chunk : camera->chunks & ~chunk;
    if (address == R_SEQUENCERSETSAVE) save_set(camera, get(camera, R_SEQUENCERSETSELECTOR));
    if (address == R_SEQUENCERSETLOAD) load_set(camera, get(camera, R_SEQUENCERSETSELECTOR));
    static const int commands[] = {R_SEQUENCERSETSAVE, R_SEQUENCERSETLOAD, R_ACQUISITIONSTART, R_ACQUISITIONSTOP};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) put(camera, commands[i], 0);
    pthread_mutex_unlock(&camera->lock);
    return GC_ERR_SUCCESS;
}

/* What one exposure is taken with. */
typedef struct { int64_t set, outputs; double exposure_us, gain_db; } Exposure;

static Exposure exposure_of(Camera *camera, int64_t set) {
    if (get(camera, R_SEQUENCERMODE))
        return (Exposure){set, camera->set[set].outputs, camera->set[set].exposure_us, camera->set[set].gain_db};
    return (Exposure){0, get(camera, R_USEROUTPUTVALUEALL), get_float(camera, R_EXPOSURETIME),
                      get_float(camera, R_GAIN)};
}

/* Without an output that fires a lamp the picture is dark; of several the lowest counts. */
static int light_of(const Film *film, int64_t outputs) {
    for (int light = 0; light < (int)film->lights; light++)
        if (outputs >> light & 1) return light;
    return -1;
}

static void wait_until(Camera *camera, int64_t due_ns) {
    struct timespec due = {due_ns / 1000000000LL, due_ns % 1000000000LL};
    while (camera->grabbing && now_ns() < due_ns) pthread_cond_timedwait(&camera->changed, &camera->lock, &due);
}

static void tell(const Camera *camera, const Buffer *buffer, const Exposure *exposure, int64_t trigger) {
    int64_t count = film_count(camera->film, trigger);
    const void *values[CHUNKS] = {
        [CHUNK_FRAMEID] = &buffer->frame_id,         [CHUNK_TIMESTAMP] = &buffer->timestamp_ns,
        [CHUNK_SEQUENCERSETACTIVE] = &exposure->set, [CHUNK_LINESTATUSALL] = &exposure->outputs,
        [CHUNK_ENCODERVALUE] = &count,               [CHUNK_EXPOSURETIME] = &exposure->exposure_us,
        [CHUNK_GAIN] = &exposure->gain_db,
    };
    write_chunks(&buffer->shape, buffer->chunks, values, camera->film->transport, buffer->base);
}

/* Of an incomplete image the first half has come, and no chunks. */
static void deliver(Camera *camera, const Exposure *exposure, int64_t trigger, int light, const Struck *struck) {
    Buffer *buffer = queue_take(&camera->input);
    if (!buffer) {
        camera->underruns++;
        return;
    }
    buffer->shape = camera_shape(camera);
    buffer->incomplete = struck->on[INCOMPLETE] || struck->on[HANG] || buffer->size < camera_payload(camera);
    buffer->has_chunks = get(camera, R_CHUNKMODEACTIVE) && !buffer->incomplete;
    buffer->chunks = camera->chunks;
    buffer->frame_id = camera->frame_id;
    buffer->timestamp_ns = (uint64_t)now_ns();
    double strength = struck->on[DARK] ? struck->value[DARK] : 1.0;
    if (struck->on[LAMP_DYING]) strength *= 1.0 - struck->value[LAMP_DYING];
    pthread_mutex_unlock(&camera->lock);
    Shape part = buffer->shape;
    if (buffer->incomplete) part.height /= 2;
    if (buffer->size >= image_bytes(&part)) paint(camera->film, &part, trigger, light, strength, buffer->base);
    if (buffer->has_chunks) tell(camera, buffer, exposure, trigger);
    pthread_mutex_lock(&camera->lock);
    if (struck->on[LATE]) wait_until(camera, now_ns() + (int64_t)(struck->value[LATE] * 1e9));
    buffer->filled = true;
    queue_put(&camera->output, buffer);
    camera->delivered++;
    pthread_cond_broadcast(&camera->changed);
}

/* The next trigger as it comes, -1 where acquisition has ended. In real time a camera that was away missed some. */
static int64_t await_trigger(Camera *camera) {
    Film *film = camera->film;
    while (camera->grabbing) {
        bool over = !film->repeats && film->next_trigger >= film->triggers;
        bool starved = film->interval_ns == 0 && !camera->input.first;
        bool lost = camera_is_lost(camera);
        if (lost && film->interval_ns) film->next_trigger = film_trigger_at(film, now_ns());
        if (over || starved || lost) {
            wait_until(camera, now_ns() + 20000000);
            continue;
        }
        int64_t trigger = film->next_trigger;
        if (film->interval_ns) wait_until(camera, film->began_ns + trigger * film->interval_ns);
        if (!camera->grabbing) break;
        film->next_trigger = trigger + 1;
        return trigger;
    }
    return -1;
}

static void *acquire(void *argument) {
    Camera *camera = argument;
    Film *film = camera->film;
    pthread_mutex_lock(&camera->lock);
    int64_t set = get(camera, R_SEQUENCERSETSTART), trigger;
    if (film->began_ns == 0) film->began_ns = now_ns();
    int64_t due = film_trigger_at(film, now_ns()) + (film->next_trigger > 0);
    if (film->interval_ns && due > film->next_trigger) film->next_trigger = due;
    Exposure last = {0};
    bool swapping = false;  /* the last one gave itself out for this one */
    while ((trigger = await_trigger(camera)) >= 0) {
        Exposure exposure = exposure_of(camera, set);
        set = camera->set[set].next;
        int light = light_of(film, exposure.outputs);
        Struck struck = film_faults(film, trigger, light);
        if (struck.on[CRASH]) abort();
        if (struck.on[TRIGGER_STOPS]) continue;
        Exposure told = exposure;
        if (swapping || struck.on[SWAPPED]) {
            const Exposure other = swapping ? last : exposure_of(camera, set);
            told.set = other.set;
            told.outputs = other.outputs;
            swapping = !swapping;
        }
        last = exposure;
        if (struck.on[WRONG_LIGHT]) light = (int)struck.value[WRONG_LIGHT] % (int)film->lights;
        if (!struck.on[LOST]) deliver(camera, &told, trigger, light, &struck);
        if (struck.on[REPEATED]) deliver(camera, &told, trigger, light, &struck);
        camera->frame_id++;
    }
    pthread_mutex_unlock(&camera->lock);
    return NULL;
}

GC_ERROR camera_start(Camera *camera) {
    if (camera_is_lost(camera)) return GC_ERR_IO;
    if (camera->grabbing) return GC_ERR_RESOURCE_IN_USE;
    camera->grabbing = true;
    camera->frame_id = 0;
    if (pthread_create(&camera->thread, NULL, acquire, camera) == 0) return GC_ERR_SUCCESS;
    camera->grabbing = false;
    return GC_ERR_ERROR;
}

void camera_stop(Camera *camera) {
    if (!camera->grabbing) return;
    pthread_mutex_lock(&camera->lock);
    camera->grabbing = false;
    pthread_cond_broadcast(&camera->changed);
    pthread_mutex_unlock(&camera->lock);
    pthread_join(camera->thread, NULL);
}
