/* The camera: registers as the GenICam description names them, a sequencer, and exposures into queued buffers. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "film.h"
#include "gentl.h"
#include "registers.h"

typedef struct Buffer {
    uint8_t *base;
    size_t size;
    void *user;
    bool owned, queued, delivered, incomplete, has_chunks;
    uint64_t frame_id, timestamp_ns;
    uint32_t width, height, format, bytes_per_pixel;
    struct Buffer *next;     /* of all that are announced */
    struct Buffer *waiting;  /* in the queue that it is in */
} Buffer;

typedef struct { Buffer *first, *last; size_t length; } Queue;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;  /* on the monotonic clock */
    uint8_t memory[MEMORY_BYTES];
    struct { double exposure_us, gain_db; int64_t outputs, next, advance; } set[SETS];
    bool chunk_enabled[CHUNKS];
    Film *film;
    Buffer *announced;
    Queue input, output;
    size_t announced_count;
    uint64_t delivered, underruns, frame_id;
    bool grabbing, killed;
    pthread_t thread;
} Camera;

void camera_init(Camera *camera, Film *film, const char *id);
bool camera_is_lost(const Camera *camera);
GC_ERROR camera_read(Camera *camera, uint64_t address, void *to, size_t size);
GC_ERROR camera_write(Camera *camera, uint64_t address, const void *from, size_t size);
GC_ERROR camera_start(Camera *camera);
void camera_stop(Camera *camera);
size_t camera_payload(const Camera *camera);

void queue_put(Queue *queue, Buffer *buffer);
Buffer *queue_take(Queue *queue);
int64_t now_ns(void);
