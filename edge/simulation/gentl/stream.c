/* The data stream of a device: its buffers, its queues, and the event of new buffers. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

/* Buffers. */
static GC_ERROR announce(Camera *camera, Buffer given, BUFFER_HANDLE *handle) {
    Buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) return GC_ERR_OUT_OF_MEMORY;
    *buffer = given;
    pthread_mutex_lock(&camera->lock);
    buffer->next = camera->announced;
    buffer->shape = camera_shape(camera);
    camera->announced = buffer;
    camera->announced_count++;
    pthread_mutex_unlock(&camera->lock);
    *handle = buffer;
    return GC_ERR_SUCCESS;
}
GC_API DSAnnounceBuffer(DS_HANDLE handle, void *base, size_t size, void *user, BUFFER_HANDLE *buffer) {
    DEVICE_OF(handle, DATA_STREAM);
    if (!base) return GC_ERR_INVALID_PARAMETER;
    return announce(&device->camera, (Buffer){.base = base, .size = size, .user = user}, buffer);
}
GC_API DSAllocAndAnnounceBuffer(DS_HANDLE handle, size_t size, void *user, BUFFER_HANDLE *buffer) {
    DEVICE_OF(handle, DATA_STREAM);
    void *base = malloc(size);
    if (!base) return GC_ERR_OUT_OF_MEMORY;
    Buffer given = {.base = base, .size = size, .user = user, .owned = true};
    GC_ERROR done = announce(&device->camera, given, buffer);
    if (done != GC_ERR_SUCCESS) free(base);
    return done;
}
static Buffer **place_of(Camera *camera, BUFFER_HANDLE of) {
    Buffer **at = &camera->announced;
    while (*at && *at != of) at = &(*at)->next;
    return at;
}
GC_API DSRevokeBuffer(DS_HANDLE handle, BUFFER_HANDLE of, void **base, void **user) {
    DEVICE_OF(handle, DATA_STREAM);
    Camera *camera = &device->camera;
    pthread_mutex_lock(&camera->lock);
    Buffer **at = place_of(camera, of), *buffer = *at;
    GC_ERROR done = !buffer ? GC_ERR_INVALID_BUFFER : buffer->queued ? GC_ERR_BUSY : GC_ERR_SUCCESS;
    if (done == GC_ERR_SUCCESS) {
        *at = buffer->next;
        camera->announced_count--;
        if (base) *base = buffer->owned ? NULL : buffer->base;
        if (user) *user = buffer->user;
        buffer_free(buffer);
    }
    pthread_mutex_unlock(&camera->lock);
    return done;
}
GC_API DSGetBufferID(DS_HANDLE handle, uint32_t index, BUFFER_HANDLE *found) {
    DEVICE_OF(handle, DATA_STREAM);
    Buffer *buffer = device->camera.announced;
    while (buffer && index--) buffer = buffer->next;
    *found = buffer;
    return buffer ? GC_ERR_SUCCESS : GC_ERR_INVALID_INDEX;
}
GC_API DSGetBufferInfo(DS_HANDLE handle, BUFFER_HANDLE of, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(handle, DATA_STREAM);
    const Buffer *buffer = of;
    if (!buffer) return GC_ERR_INVALID_BUFFER;
    switch (what) {
    case BUF_BASE: NUMBER(void *, T_PTR, buffer->base);
    case BUF_SIZE: NUMBER(size_t, T_SIZET, buffer->size);
    case BUF_USER_PTR: NUMBER(void *, T_PTR, buffer->user);
    case BUF_TIMESTAMP: case BUF_TIMESTAMP_NS: NUMBER(uint64_t, T_UINT64, buffer->timestamp_ns);
    case BUF_NEW_DATA: NUMBER(bool8_t, T_BOOL8, buffer->filled);
    case BUF_IS_QUEUED: NUMBER(bool8_t, T_BOOL8, buffer->queued);
    case BUF_IS_ACQUIRING: case BUF_DATA_LARGER_THAN_BUFFER: NUMBER(bool8_t, T_BOOL8, 0);
    case BUF_IS_INCOMPLETE: NUMBER(bool8_t, T_BOOL8, buffer->incomplete);
    case BUF_TLTYPE: return text(transport_of(device), type, to, room);
    case BUF_SIZE_FILLED: case BUF_DATA_SIZE: NUMBER(size_t, T_SIZET, buffer_bytes(buffer));
    case BUF_WIDTH: NUMBER(size_t, T_SIZET, buffer->shape.width);
    case BUF_HEIGHT: case BUF_DELIVERED_IMAGEHEIGHT: NUMBER(size_t, T_SIZET, buffer->shape.height);
    case BUF_XPADDING: NUMBER(size_t, T_SIZET, buffer->shape.padding_bytes);
    case BUF_XOFFSET: case BUF_YOFFSET: case BUF_YPADDING: case BUF_IMAGEOFFSET: NUMBER(size_t, T_SIZET, 0);
    case BUF_FRAMEID: NUMBER(uint64_t, T_UINT64, buffer->frame_id);
    case BUF_IMAGEPRESENT: NUMBER(bool8_t, T_BOOL8, 1);
    case BUF_PAYLOADTYPE: NUMBER(size_t, T_SIZET, PAYLOAD_IMAGE);
    case BUF_PIXELFORMAT: NUMBER(uint64_t, T_UINT64, buffer->shape.format->code);
    case BUF_PIXELFORMAT_NAMESPACE: NUMBER(uint64_t, T_UINT64, NAMESPACE_PFNC_32BIT);
    case BUF_DELIVERED_CHUNKPAYLOADSIZE: NUMBER(size_t, T_SIZET, buffer->has_chunks ? buffer_bytes(buffer) : 0);
    case BUF_PIXEL_ENDIANNESS: NUMBER(int32_t, T_INT32, LITTLE);
    case BUF_CONTAINS_CHUNKDATA: NUMBER(bool8_t, T_BOOL8, buffer->has_chunks);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API DSGetBufferChunkData(DS_HANDLE handle, BUFFER_HANDLE of, SINGLE_CHUNK_DATA *chunks, size_t *count) {
    (void)handle;
    const Buffer *buffer = of;
    if (!buffer) return GC_ERR_INVALID_BUFFER;
    size_t found = 0;
    for (int i = 0; i < CHUNKS && buffer->has_chunks; i++) {
        if (!(buffer->chunks >> i & 1)) continue;
        ptrdiff_t at = (ptrdiff_t)chunk_offset(&buffer->shape, buffer->chunks, i);
        if (chunks && found < *count) chunks[found] = (SINGLE_CHUNK_DATA){chunk_id(i), at, CHUNK_BYTES};
        found++;
    }
    GC_ERROR done = chunks && found > *count ? GC_ERR_BUFFER_TOO_SMALL : GC_ERR_SUCCESS;
    *count = found;
    return done;
}
GC_API DSGetNumBufferParts(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t *count) {
    (void)handle, (void)buffer, (void)count;
    return GC_ERR_NOT_IMPLEMENTED;
}
GC_API DSGetBufferPartInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t part, int32_t what,
                                INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle, (void)buffer, (void)part, (void)what, (void)type, (void)to, (void)room;
    return GC_ERR_NOT_IMPLEMENTED;
}

/* Queues. */
static void await_filling(Camera *camera, Buffer *buffer) {
    buffer->queued = true;
    buffer->filled = false;
    queue_put(&camera->input, buffer);
    pthread_cond_broadcast(&camera->changed);
}
GC_API DSQueueBuffer(DS_HANDLE handle, BUFFER_HANDLE of) {
    DEVICE_OF(handle, DATA_STREAM);
    Camera *camera = &device->camera;
    pthread_mutex_lock(&camera->lock);
    Buffer *buffer = *place_of(camera, of);
    GC_ERROR done = !buffer                                   ? GC_ERR_INVALID_BUFFER
                    : buffer->queued                          ? GC_ERR_RESOURCE_IN_USE
                    : buffer->size < camera_payload(camera)   ? GC_ERR_BUFFER_TOO_SMALL
                                                              : GC_ERR_SUCCESS;
    if (done == GC_ERR_SUCCESS) await_filling(camera, buffer);
    pthread_mutex_unlock(&camera->lock);
    return done;
}
static void discard(Queue *queue) {
    for (Buffer *buffer; (buffer = queue_take(queue));) buffer->queued = buffer->filled = false;
}
GC_API DSFlushQueue(DS_HANDLE handle, int32_t what) {
    DEVICE_OF(handle, DATA_STREAM);
    Camera *camera = &device->camera;
    pthread_mutex_lock(&camera->lock);
    if (what == QUEUE_INPUT_TO_OUTPUT)
        for (Buffer *buffer; (buffer = queue_take(&camera->input));) queue_put(&camera->output, buffer);
    if (what == QUEUE_OUTPUT_DISCARD || what == QUEUE_ALL_TO_INPUT || what == QUEUE_ALL_DISCARD)
        discard(&camera->output);
    if (what == QUEUE_ALL_DISCARD) discard(&camera->input);
    if (what == QUEUE_ALL_TO_INPUT || what == QUEUE_UNQUEUED_TO_INPUT)
        for (Buffer *buffer = camera->announced; buffer; buffer = buffer->next)
            if (!buffer->queued) await_filling(camera, buffer);
    pthread_cond_broadcast(&camera->changed);
    pthread_mutex_unlock(&camera->lock);
    return GC_ERR_SUCCESS;
}

/* Stream. */
GC_API DSStartAcquisition(DS_HANDLE handle, int32_t flags, uint64_t count) {
    (void)flags, (void)count;
    DEVICE_OF(handle, DATA_STREAM);
    return camera_start(&device->camera);
}
GC_API DSStopAcquisition(DS_HANDLE handle, int32_t flags) {
    (void)flags;
    DEVICE_OF(handle, DATA_STREAM);
    camera_stop(&device->camera);
    return GC_ERR_SUCCESS;
}
GC_API DSClose(DS_HANDLE handle) {
    DEVICE_OF(handle, DATA_STREAM);
    camera_stop(&device->camera);
    camera_forget_buffers(&device->camera);
    return GC_ERR_SUCCESS;
}
GC_API DSGetParentDev(DS_HANDLE handle, DEV_HANDLE *parent) {
    DEVICE_OF(handle, DATA_STREAM);
    *parent = &device->module[LOCAL_DEVICE];
    return GC_ERR_SUCCESS;
}
GC_API DSGetInfo(DS_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(handle, DATA_STREAM);
    const Camera *camera = &device->camera;
    switch (what) {
    case DS_ID: return text(STREAM_NAME, type, to, room);
    case DS_NUM_DELIVERED: case DS_NUM_STARTED: NUMBER(uint64_t, T_UINT64, camera->delivered);
    case DS_NUM_UNDERRUN: NUMBER(uint64_t, T_UINT64, camera->underruns);
    case DS_NUM_ANNOUNCED: NUMBER(size_t, T_SIZET, camera->announced_count);
    case DS_NUM_QUEUED: NUMBER(size_t, T_SIZET, camera->input.length);
    case DS_NUM_AWAIT_DELIVERY: NUMBER(size_t, T_SIZET, camera->output.length);
    case DS_PAYLOAD_SIZE: NUMBER(size_t, T_SIZET, camera_payload(camera));
    case DS_IS_GRABBING: NUMBER(bool8_t, T_BOOL8, camera->grabbing);
    case DS_DEFINES_PAYLOADSIZE: NUMBER(bool8_t, T_BOOL8, 1);
    case DS_TLTYPE: return text(transport_of(device), type, to, room);
    case DS_NUM_CHUNKS_MAX: NUMBER(size_t, T_SIZET, CHUNKS);
    case DS_BUF_ANNOUNCE_MIN: NUMBER(size_t, T_SIZET, 2);
    case DS_BUF_ALIGNMENT: NUMBER(size_t, T_SIZET, 1);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

/* Events: that of new buffers. */
GC_API GCRegisterEvent(EVENTSRC_HANDLE source, int32_t kind, EVENT_HANDLE *event) {
    Device *device = device_behind(source, DATA_STREAM);
    if (!device || kind != EVENT_NEW_BUFFER) return GC_ERR_NOT_IMPLEMENTED;
    device->camera.killed = false;
    *event = &device->module[NEW_BUFFERS];
    return GC_ERR_SUCCESS;
}
GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t kind) { (void)source, (void)kind; return GC_ERR_SUCCESS; }
GC_API EventGetData(EVENT_HANDLE event, void *to, size_t *room, uint64_t timeout_ms) {
    DEVICE_OF(event, NEW_BUFFERS);
    if (*room < sizeof(EVENT_NEW_BUFFER_DATA)) return GC_ERR_BUFFER_TOO_SMALL;
    Camera *camera = &device->camera;
    int64_t due_ns = timeout_ms > 1000000000 ? INT64_MAX : now_ns() + (int64_t)timeout_ms * 1000000;
    struct timespec due = {due_ns / 1000000000, due_ns % 1000000000};
    GC_ERROR done = GC_ERR_SUCCESS;
    pthread_mutex_lock(&camera->lock);
    while (!camera->output.first && !camera->killed && now_ns() < due_ns)
        pthread_cond_timedwait(&camera->changed, &camera->lock, &due);
    Buffer *buffer = camera->killed ? NULL : queue_take(&camera->output);
    if (buffer) {
        buffer->queued = false;
        memcpy(to, &(EVENT_NEW_BUFFER_DATA){buffer, buffer->user}, sizeof(EVENT_NEW_BUFFER_DATA));
    } else {
        done = camera->killed ? GC_ERR_ABORT : GC_ERR_TIMEOUT;
    }
    camera->killed = false;
    pthread_mutex_unlock(&camera->lock);
    *room = sizeof(EVENT_NEW_BUFFER_DATA);
    return done;
}
GC_API EventGetDataInfo(EVENT_HANDLE event, const void *in, size_t in_size, int32_t what,
                        INFO_DATATYPE *type, void *to, size_t *room) {
    if (!device_behind(event, NEW_BUFFERS)) return GC_ERR_INVALID_HANDLE;
    EVENT_NEW_BUFFER_DATA data;
    if (in_size < sizeof data) return GC_ERR_INVALID_PARAMETER;
    memcpy(&data, in, sizeof data);
    if (what == EVENT_DATA_ID) NUMBER(void *, T_PTR, data.BufferHandle);
    if (what == EVENT_DATA_VALUE) NUMBER(void *, T_PTR, data.pUserPointer);
    return GC_ERR_NOT_IMPLEMENTED;
}
GC_API EventGetInfo(EVENT_HANDLE event, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(event, NEW_BUFFERS);
    switch (what) {
    case EVENT_TYPE_INFO: NUMBER(int32_t, T_INT32, EVENT_NEW_BUFFER);
    case EVENT_NUM_IN_QUEUE: NUMBER(size_t, T_SIZET, device->camera.output.length);
    case EVENT_NUM_FIRED: NUMBER(uint64_t, T_UINT64, device->camera.delivered);
    case EVENT_SIZE_MAX: case EVENT_DATA_SIZE_MAX: NUMBER(size_t, T_SIZET, sizeof(EVENT_NEW_BUFFER_DATA));
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API EventFlush(EVENT_HANDLE event) {
    DEVICE_OF(event, NEW_BUFFERS);
    pthread_mutex_lock(&device->camera.lock);
    discard(&device->camera.output);
    pthread_mutex_unlock(&device->camera.lock);
    return GC_ERR_SUCCESS;
}
GC_API EventKill(EVENT_HANDLE event) {
    DEVICE_OF(event, NEW_BUFFERS);
    pthread_mutex_lock(&device->camera.lock);
    device->camera.killed = true;
    pthread_cond_broadcast(&device->camera.changed);
    pthread_mutex_unlock(&device->camera.lock);
    return GC_ERR_SUCCESS;
}

/* GenTL 1.6. */
GC_API DSAnnounceCompositeBuffer(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetNumFlows(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetFlowInfo(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetNumBufferSegments(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetBufferSegmentInfo(void) { return GC_ERR_NOT_IMPLEMENTED; }
