/* The camera: registers as the GenICam description names them, a sequencer, and exposures into queued buffers. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "film.h"
#include "gentl.h"
#include "image.h"

typedef struct Buffer {
    uint8_t *base;
    size_t size;
    void *user;
    bool owned;              /* its memory is ours */
    bool queued;             /* in a queue or being filled: not the consumer's */
    bool filled, incomplete, has_chunks;
    uint64_t frame_id, timestamp_ns;
    Shape shape;
    uint32_t chunks;         /* a bit for each that is in it */
    struct Buffer *next;     /* of all that are announced */
    struct Buffer *waiting;  /* in the queue that it is in */
} Buffer;

typedef struct { Buffer *first, *last; size_t length; } Queue;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;  /* on the monotonic clock */
    uint8_t memory[MEMORY_BYTES];
    struct { double exposure_us, gain_db; int64_t outputs, next, advance; } set[SETS];
    uint32_t chunks;         /* a bit for each that is enabled */
    Film *film;
    Buffer *announced;
    Queue input, output;
    size_t announced_count;
    uint64_t delivered, underruns, frame_id;
    _Atomic bool grabbing;
    bool killed;             /* whoever waits for a buffer shall give up */
    pthread_t thread;
} Camera;

/* Takes the film over. */
void camera_init(Camera *camera, Film *film, const char *id, const char *serial);
void camera_free(Camera *camera);
bool camera_is_lost(const Camera *camera);
GC_ERROR camera_read(Camera *camera, uint64_t address, void *to, size_t size);
GC_ERROR camera_write(Camera *camera, uint64_t address, const void *from, size_t size);
GC_ERROR camera_start(Camera *camera);
void camera_stop(Camera *camera);
Shape camera_shape(const Camera *camera);
/* How large a buffer must be. */
size_t camera_payload(const Camera *camera);
/* Gives back what is announced; not while it runs. */
void camera_forget_buffers(Camera *camera);

void queue_put(Queue *queue, Buffer *buffer);
Buffer *queue_take(Queue *queue);
size_t buffer_bytes(const Buffer *buffer);
/* With its memory where that is ours. */
void buffer_free(Buffer *buffer);
int64_t now_ns(void);
