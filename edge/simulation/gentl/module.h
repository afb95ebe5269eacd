/* The modules of the producer: what the standard's handles point to, and how they answer. */
#pragma once
#include "camera.h"

#define STREAM_NAME "Stream0"

typedef struct Device Device;
typedef enum { SYSTEM, INTERFACE, LOCAL_DEVICE, REMOTE_DEVICE, DATA_STREAM, NEW_BUFFERS, MODULES } Kind;
typedef struct { Kind kind; Device *device; } Module;

/* A camera with the interface that it alone is on. */
struct Device {
    Camera camera;
    char id[32], interface_id[32], name[32], serial[8];
    bool open;
    Module module[MODULES];
};

static inline Device *device_behind(const void *handle, Kind kind) {
    const Module *module = handle;
    return module && module->kind == kind ? module->device : NULL;
}
/* Declares `device`, that of a handle of a kind. */
#define DEVICE_OF(handle, kind) \
    Device *device = device_behind(handle, kind); \
    if (!device) return GC_ERR_INVALID_HANDLE

/* Answers: `*room` is how much fits into `to` and becomes how much there is; without `to` it is only asked for. */
GC_ERROR answer(INFO_DATATYPE type, INFO_DATATYPE *of, const void *value, size_t size, void *to, size_t *room);
GC_ERROR text(const char *value, INFO_DATATYPE *type, void *to, size_t *room);
#define NUMBER(kind, type_, value) \
    do { \
        kind number = (kind)(value); \
        return answer(type_, type, &number, sizeof number, to, room); \
    } while (0)

const char *transport_of(const Device *device);
