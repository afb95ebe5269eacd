/* GenTL 1.5 over one simulated camera: one system, one interface, one device, one stream. Every export of the standard
   is here; what this producer has no use for answers GC_ERR_NOT_IMPLEMENTED. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera.h"
#include "description.h"

static const char *ID = "FoilsightStrobed", *TLTYPE = "Custom", *IF_NAME = "FoilsightInterface", *DS_NAME = "Stream0";
enum { DESCRIPTION_AT = 0x100000 };

/* The modules; their addresses are their handles. `device` is the local one, `remote` the camera behind it. */
static struct { bool open; } library, system_, interface, device, remote, stream, buffer_event;
static Camera camera;
static bool has_camera;

typedef struct { const char *name; const unsigned char *xml; size_t bytes; } Port;
#define PORT(name) ((Port){#name, name##_xml, sizeof name##_xml})
static Port port_of(PORT_HANDLE handle) {
    if (handle == &remote) return PORT(Device);
    if (handle == &device) return PORT(TLDevice);
    if (handle == &stream) return PORT(TLDataStream);
    return handle == &interface ? PORT(TLInterface) : PORT(TLSystem);
}

static GC_ERROR fill(INFO_DATATYPE type, INFO_DATATYPE *of, const void *value, size_t size, void *to, size_t *room) {
    if (of) *of = type;
    if (!room) return GC_ERR_INVALID_PARAMETER;
    size_t given = *room;
    *room = size;
    if (!to) return GC_ERR_SUCCESS;
    if (given < size) return GC_ERR_BUFFER_TOO_SMALL;
    memcpy(to, value, size);
    return GC_ERR_SUCCESS;
}
static GC_ERROR text(const char *value, INFO_DATATYPE *type, void *to, size_t *room) {
    return fill(T_STRING, type, value, strlen(value) + 1, to, room);
}
#define NUMBER(kind, type_, value) do { kind number = (kind)(value); return fill(type_, type, &number, sizeof number, to, room); } while (0)

static bool device_is_there(void) { return has_camera && !camera_is_lost(&camera); }

/* Library and ports. */
GC_API GCInitLib(void) {
    if (library.open) return GC_ERR_RESOURCE_IN_USE;
    if (!has_camera) {
        Film *film = film_open(getenv("FOILSIGHT_FILM"));
        if (film) camera_init(&camera, film, ID);
        has_camera = film != NULL;
    }
    library.open = true;
    return GC_ERR_SUCCESS;
}
GC_API GCCloseLib(void) { library.open = false; return GC_ERR_SUCCESS; }
GC_API GCGetLastError(GC_ERROR *error, char *message, size_t *room) {
    if (error) *error = GC_ERR_SUCCESS;
    return text("", NULL, message, room);
}
static GC_ERROR about_system(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    switch (what) {
    case TL_ID: case TL_MODEL: case TL_NAME: case TL_DISPLAYNAME: return text("FoilsightProducer", type, to, room);
    case TL_VENDOR: return text("Foilsight", type, to, room);
    case TL_VERSION: return text("1.0", type, to, room);
    case TL_TLTYPE: return text(TLTYPE, type, to, room);
    case TL_PATHNAME: return text("foilsight.cti", type, to, room);
    case TL_CHAR_ENCODING: NUMBER(int32_t, T_INT32, CHARSET_UTF8);
    case TL_GENTL_VER_MAJOR: NUMBER(uint32_t, T_UINT32, 1);
    case TL_GENTL_VER_MINOR: NUMBER(uint32_t, T_UINT32, 5);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API GCGetInfo(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) { return about_system(what, type, to, room); }

GC_API GCReadPort(PORT_HANDLE handle, uint64_t address, void *to, size_t *size) {
    if (address < DESCRIPTION_AT) return handle == &remote ? camera_read(&camera, address, to, *size) : GC_ERR_INVALID_ADDRESS;
    Port port = port_of(handle);
    uint64_t at = address - DESCRIPTION_AT;
    if (at > port.bytes || *size > port.bytes - at) return GC_ERR_INVALID_ADDRESS;
    memcpy(to, port.xml + at, *size);
    return GC_ERR_SUCCESS;
}
GC_API GCWritePort(PORT_HANDLE port, uint64_t address, const void *from, size_t *size) {
    return port == &remote ? camera_write(&camera, address, from, *size) : GC_ERR_INVALID_ADDRESS;
}
GC_API GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        GC_ERROR done = GCReadPort(port, entries[i].Address, entries[i].pBuffer, &entries[i].Size);
        if (done != GC_ERR_SUCCESS) { *count = i; return done; }
    }
    return GC_ERR_SUCCESS;
}
GC_API GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        GC_ERROR done = GCWritePort(port, entries[i].Address, entries[i].pBuffer, &entries[i].Size);
        if (done != GC_ERR_SUCCESS) { *count = i; return done; }
    }
    return GC_ERR_SUCCESS;
}
static GC_ERROR url(PORT_HANDLE handle, INFO_DATATYPE *type, char *to, size_t *room) {
    char written[96];
    Port port = port_of(handle);
    snprintf(written, sizeof written, "Local:%s.xml;%x;%zx", port.name, DESCRIPTION_AT, port.bytes);
    return text(written, type, to, room);
}
GC_API GCGetNumPortURLs(PORT_HANDLE port, uint32_t *count) { (void)port; *count = 1; return GC_ERR_SUCCESS; }
GC_API GCGetPortURL(PORT_HANDLE port, char *to, size_t *room) { return url(port, NULL, to, room); }
GC_API GCGetPortURLInfo(PORT_HANDLE port, uint32_t index, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (index > 0) return GC_ERR_INVALID_INDEX;
    switch (what) {
    case URL_URL: return url(port, type, to, room);
    case URL_SCHEMA_MAJOR: case URL_SCHEMA_MINOR: case URL_FILE_MAJOR: NUMBER(int32_t, T_INT32, 1);
    case URL_FILE_MINOR: case URL_FILE_SUBMINOR: NUMBER(int32_t, T_INT32, 0);
    case URL_REGISTER_ADDRESS: NUMBER(uint64_t, T_UINT64, DESCRIPTION_AT);
    case URL_FILE_SIZE: NUMBER(uint64_t, T_UINT64, port_of(port).bytes);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API GCGetPortInfo(PORT_HANDLE port, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    const char *module = port_of(port).name;
    switch (what) {
    case PORT_ID: return text(ID, type, to, room);
    case PORT_VENDOR: return text("Foilsight", type, to, room);
    case PORT_MODEL: return text("StrobedCamera", type, to, room);
    case PORT_TLTYPE: return text(TLTYPE, type, to, room);
    case PORT_MODULE: case PORT_PORTNAME: return text(module, type, to, room);
    case PORT_LITTLE_ENDIAN: case PORT_ACCESS_READ: case PORT_ACCESS_WRITE: NUMBER(bool8_t, T_BOOL8, 1);
    case PORT_BIG_ENDIAN: case PORT_ACCESS_NA: case PORT_ACCESS_NI: NUMBER(bool8_t, T_BOOL8, 0);
    case PORT_VERSION: return text("1.0", type, to, room);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

/* System and interface. */
GC_API TLOpen(TL_HANDLE *handle) { *handle = &system_; return library.open ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED; }
GC_API TLClose(TL_HANDLE handle) { (void)handle; return GC_ERR_SUCCESS; }
GC_API TLGetInfo(TL_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return about_system(what, type, to, room);
}
GC_API TLUpdateInterfaceList(TL_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)handle, (void)timeout_ms;
    if (changed) *changed = 0;
    return GC_ERR_SUCCESS;
}
GC_API TLGetNumInterfaces(TL_HANDLE handle, uint32_t *count) { (void)handle; *count = 1; return GC_ERR_SUCCESS; }
GC_API TLGetInterfaceID(TL_HANDLE handle, uint32_t index, char *to, size_t *room) {
    (void)handle;
    return index == 0 ? text(IF_NAME, NULL, to, room) : GC_ERR_INVALID_INDEX;
}
static GC_ERROR about_interface(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (what == IF_ID || what == IF_DISPLAYNAME) return text(IF_NAME, type, to, room);
    return what == IF_TLTYPE ? text(TLTYPE, type, to, room) : GC_ERR_NOT_IMPLEMENTED;
}
GC_API TLGetInterfaceInfo(TL_HANDLE handle, const char *id, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return strcmp(id, IF_NAME) == 0 ? about_interface(what, type, to, room) : GC_ERR_INVALID_ID;
}
GC_API TLOpenInterface(TL_HANDLE handle, const char *id, IF_HANDLE *opened) {
    (void)handle;
    if (strcmp(id, IF_NAME) != 0) return GC_ERR_INVALID_ID;
    *opened = &interface;
    return GC_ERR_SUCCESS;
}
GC_API IFClose(IF_HANDLE handle) { (void)handle; return GC_ERR_SUCCESS; }
GC_API IFGetInfo(IF_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return about_interface(what, type, to, room);
}
GC_API IFGetParentTL(IF_HANDLE handle, TL_HANDLE *parent) { (void)handle; *parent = &system_; return GC_ERR_SUCCESS; }
GC_API IFUpdateDeviceList(IF_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)handle, (void)timeout_ms;
    if (changed) *changed = 1;
    return GC_ERR_SUCCESS;
}
GC_API IFGetNumDevices(IF_HANDLE handle, uint32_t *count) { (void)handle; *count = device_is_there(); return GC_ERR_SUCCESS; }
GC_API IFGetDeviceID(IF_HANDLE handle, uint32_t index, char *to, size_t *room) {
    (void)handle;
    return index == 0 && device_is_there() ? text(ID, NULL, to, room) : GC_ERR_INVALID_INDEX;
}

/* Device. */
static GC_ERROR about_device(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    switch (what) {
    case DEV_ID: case DEV_DISPLAYNAME: return text(ID, type, to, room);
    case DEV_VENDOR: return text("Foilsight", type, to, room);
    case DEV_MODEL: return text("StrobedCamera", type, to, room);
    case DEV_TLTYPE: return text(TLTYPE, type, to, room);
    case DEV_ACCESS_STATUS: NUMBER(int32_t, T_INT32, ACCESS_READWRITE);
    case DEV_USER_DEFINED_NAME: return text("simulated", type, to, room);
    case DEV_SERIAL_NUMBER: return text("1", type, to, room);
    case DEV_VERSION: return text("1.0", type, to, room);
    case DEV_TIMESTAMP_FREQUENCY: NUMBER(uint64_t, T_UINT64, 1000000000);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API IFGetDeviceInfo(IF_HANDLE handle, const char *id, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return strcmp(id, ID) == 0 ? about_device(what, type, to, room) : GC_ERR_INVALID_ID;
}
GC_API IFOpenDevice(IF_HANDLE handle, const char *id, int32_t access, DEV_HANDLE *opened) {
    (void)handle, (void)access;
    if (strcmp(id, ID) != 0 || !device_is_there()) return GC_ERR_INVALID_ID;
    if (device.open) return GC_ERR_RESOURCE_IN_USE;
    device.open = true;
    *opened = &device;
    return GC_ERR_SUCCESS;
}
GC_API DevClose(DEV_HANDLE handle) { (void)handle; camera_stop(&camera); device.open = false; return GC_ERR_SUCCESS; }
GC_API DevGetInfo(DEV_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return about_device(what, type, to, room);
}
GC_API DevGetParentIF(DEV_HANDLE handle, IF_HANDLE *parent) { (void)handle; *parent = &interface; return GC_ERR_SUCCESS; }
GC_API DevGetPort(DEV_HANDLE handle, PORT_HANDLE *port) { (void)handle; *port = &remote; return GC_ERR_SUCCESS; }
GC_API DevGetNumDataStreams(DEV_HANDLE handle, uint32_t *count) { (void)handle; *count = 1; return GC_ERR_SUCCESS; }
GC_API DevGetDataStreamID(DEV_HANDLE handle, uint32_t index, char *to, size_t *room) {
    (void)handle;
    return index == 0 ? text(DS_NAME, NULL, to, room) : GC_ERR_INVALID_INDEX;
}
GC_API DevOpenDataStream(DEV_HANDLE handle, const char *id, DS_HANDLE *opened) {
    (void)handle;
    if (strcmp(id, DS_NAME) != 0) return GC_ERR_INVALID_ID;
    *opened = &stream;
    return GC_ERR_SUCCESS;
}

/* Stream. */
static GC_ERROR announce(void *base, size_t size, void *user, bool owned, BUFFER_HANDLE *handle) {
    Buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer) return GC_ERR_ERROR;
    *buffer = (Buffer){.base = base, .size = size, .user = user, .owned = owned, .next = camera.announced};
    camera.announced = buffer;
    camera.announced_count++;
    *handle = buffer;
    return GC_ERR_SUCCESS;
}
GC_API DSAnnounceBuffer(DS_HANDLE handle, void *base, size_t size, void *user, BUFFER_HANDLE *buffer) {
    (void)handle;
    return announce(base, size, user, false, buffer);
}
GC_API DSAllocAndAnnounceBuffer(DS_HANDLE handle, size_t size, void *user, BUFFER_HANDLE *buffer) {
    (void)handle;
    void *base = aligned_alloc(64, (size + 63) / 64 * 64);
    return base ? announce(base, size, user, true, buffer) : GC_ERR_ERROR;
}
GC_API DSRevokeBuffer(DS_HANDLE handle, BUFFER_HANDLE of, void **base, void **user) {
    (void)handle;
    for (Buffer **at = &camera.announced; *at; at = &(*at)->next) {
        Buffer *buffer = *at;
        if (buffer != of) continue;
        *at = buffer->next;
        camera.announced_count--;
        if (base) *base = buffer->owned ? NULL : buffer->base;
        if (user) *user = buffer->user;
        if (buffer->owned) free(buffer->base);
        free(buffer);
        return GC_ERR_SUCCESS;
    }
    return GC_ERR_INVALID_BUFFER;
}
GC_API DSGetBufferID(DS_HANDLE handle, uint32_t index, BUFFER_HANDLE *found) {
    (void)handle;
    Buffer *buffer = camera.announced;
    while (buffer && index--) buffer = buffer->next;
    *found = buffer;
    return buffer ? GC_ERR_SUCCESS : GC_ERR_INVALID_INDEX;
}
GC_API DSQueueBuffer(DS_HANDLE handle, BUFFER_HANDLE of) {
    (void)handle;
    Buffer *buffer = of;
    pthread_mutex_lock(&camera.lock);
    GC_ERROR done = buffer->queued ? GC_ERR_RESOURCE_IN_USE
                    : buffer->size < camera_payload(&camera) ? GC_ERR_BUFFER_TOO_SMALL : GC_ERR_SUCCESS;
    if (done == GC_ERR_SUCCESS) {
        buffer->queued = true;
        buffer->delivered = false;
        queue_put(&camera.input, buffer);
        pthread_cond_broadcast(&camera.changed);
    }
    pthread_mutex_unlock(&camera.lock);
    return done;
}
static void discard(Queue *queue) {
    for (Buffer *buffer; (buffer = queue_take(queue));) buffer->queued = buffer->delivered = false;
}
GC_API DSFlushQueue(DS_HANDLE handle, int32_t what) {
    (void)handle;
    pthread_mutex_lock(&camera.lock);
    if (what != QUEUE_UNQUEUED_TO_INPUT) discard(&camera.output);
    if (what != QUEUE_OUTPUT_DISCARD && what != QUEUE_UNQUEUED_TO_INPUT) discard(&camera.input);
    if (what == QUEUE_ALL_TO_INPUT || what == QUEUE_UNQUEUED_TO_INPUT)
        for (Buffer *buffer = camera.announced; buffer; buffer = buffer->next)
            if (!buffer->queued && !buffer->delivered) {
                buffer->queued = true;
                queue_put(&camera.input, buffer);
            }
    pthread_mutex_unlock(&camera.lock);
    return GC_ERR_SUCCESS;
}
GC_API DSStartAcquisition(DS_HANDLE handle, int32_t flags, uint64_t count) {
    (void)handle, (void)flags, (void)count;
    return camera_start(&camera);
}
GC_API DSStopAcquisition(DS_HANDLE handle, int32_t flags) { (void)handle, (void)flags; camera_stop(&camera); return GC_ERR_SUCCESS; }
GC_API DSClose(DS_HANDLE handle) { (void)handle; camera_stop(&camera); return GC_ERR_SUCCESS; }
GC_API DSGetParentDev(DS_HANDLE handle, DEV_HANDLE *parent) { (void)handle; *parent = &device; return GC_ERR_SUCCESS; }
GC_API DSGetInfo(DS_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    switch (what) {
    case DS_ID: return text(DS_NAME, type, to, room);
    case DS_NUM_DELIVERED: case DS_NUM_STARTED: NUMBER(uint64_t, T_UINT64, camera.delivered);
    case DS_NUM_UNDERRUN: NUMBER(uint64_t, T_UINT64, camera.underruns);
    case DS_NUM_ANNOUNCED: NUMBER(size_t, T_SIZET, camera.announced_count);
    case DS_NUM_QUEUED: NUMBER(size_t, T_SIZET, camera.input.length);
    case DS_NUM_AWAIT_DELIVERY: NUMBER(size_t, T_SIZET, camera.output.length);
    case DS_PAYLOAD_SIZE: NUMBER(size_t, T_SIZET, camera_payload(&camera));
    case DS_IS_GRABBING: NUMBER(bool8_t, T_BOOL8, camera.grabbing);
    case DS_DEFINES_PAYLOADSIZE: NUMBER(bool8_t, T_BOOL8, 1);
    case DS_TLTYPE: return text(TLTYPE, type, to, room);
    case DS_NUM_CHUNKS_MAX: NUMBER(size_t, T_SIZET, CHUNKS);
    case DS_BUF_ANNOUNCE_MIN: NUMBER(size_t, T_SIZET, 2);
    case DS_BUF_ALIGNMENT: NUMBER(size_t, T_SIZET, 1);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
static size_t image_bytes(const Buffer *buffer) { return (size_t)buffer->width * buffer->height * buffer->bytes_per_pixel; }
GC_API DSGetBufferInfo(DS_HANDLE handle, BUFFER_HANDLE of, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    const Buffer *buffer = of;
    size_t filled = image_bytes(buffer) + (buffer->has_chunks ? 8 * CHUNKS : 0);
    switch (what) {
    case BUF_BASE: NUMBER(void *, T_PTR, buffer->base);
    case BUF_SIZE: NUMBER(size_t, T_SIZET, buffer->size);
    case BUF_USER_PTR: NUMBER(void *, T_PTR, buffer->user);
    case BUF_TIMESTAMP: case BUF_TIMESTAMP_NS: NUMBER(uint64_t, T_UINT64, buffer->timestamp_ns);
    case BUF_NEW_DATA: NUMBER(bool8_t, T_BOOL8, buffer->delivered);
    case BUF_IS_QUEUED: NUMBER(bool8_t, T_BOOL8, buffer->queued);
    case BUF_IS_ACQUIRING: case BUF_DATA_LARGER_THAN_BUFFER: NUMBER(bool8_t, T_BOOL8, 0);
    case BUF_IS_INCOMPLETE: NUMBER(bool8_t, T_BOOL8, buffer->incomplete);
    case BUF_TLTYPE: return text(TLTYPE, type, to, room);
    case BUF_SIZE_FILLED: case BUF_DATA_SIZE: NUMBER(size_t, T_SIZET, buffer->incomplete ? filled / 2 : filled);
    case BUF_WIDTH: NUMBER(size_t, T_SIZET, buffer->width);
    case BUF_HEIGHT: case BUF_DELIVERED_IMAGEHEIGHT: NUMBER(size_t, T_SIZET, buffer->height);
    case BUF_XOFFSET: case BUF_YOFFSET: case BUF_XPADDING: case BUF_YPADDING: case BUF_IMAGEOFFSET: NUMBER(size_t, T_SIZET, 0);
    case BUF_FRAMEID: NUMBER(uint64_t, T_UINT64, buffer->frame_id);
    case BUF_IMAGEPRESENT: NUMBER(bool8_t, T_BOOL8, 1);
    case BUF_PAYLOADTYPE: NUMBER(size_t, T_SIZET, PAYLOAD_IMAGE);
    case BUF_PIXELFORMAT: NUMBER(uint64_t, T_UINT64, buffer->format);
    case BUF_PIXELFORMAT_NAMESPACE: NUMBER(uint64_t, T_UINT64, NAMESPACE_PFNC_32BIT);
    case BUF_DELIVERED_CHUNKPAYLOADSIZE: NUMBER(size_t, T_SIZET, buffer->has_chunks ? 8 * CHUNKS : 0);
    case BUF_PIXEL_ENDIANNESS: NUMBER(int32_t, T_INT32, LITTLE);
    case BUF_CONTAINS_CHUNKDATA: NUMBER(bool8_t, T_BOOL8, buffer->has_chunks);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API DSGetBufferChunkData(DS_HANDLE handle, BUFFER_HANDLE of, SINGLE_CHUNK_DATA *chunks, size_t *count) {
    (void)handle;
    const Buffer *buffer = of;
    size_t found = 0;
    for (int i = 0; i < CHUNKS && buffer->has_chunks; i++) {
        if (!camera.chunk_enabled[i]) continue;
        if (chunks && found < *count)
            chunks[found] = (SINGLE_CHUNK_DATA){(uint64_t)i + 1, (ptrdiff_t)(image_bytes(buffer) + 8 * (size_t)i), 8};
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
GC_API DSGetBufferPartInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t part, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle, (void)buffer, (void)part, (void)what, (void)type, (void)to, (void)room;
    return GC_ERR_NOT_IMPLEMENTED;
}

/* Events: that of new buffers. */
GC_API GCRegisterEvent(EVENTSRC_HANDLE source, int32_t kind, EVENT_HANDLE *event) {
    if (source != &stream || kind != EVENT_NEW_BUFFER) return GC_ERR_NOT_IMPLEMENTED;
    camera.killed = false;
    *event = &buffer_event;
    return GC_ERR_SUCCESS;
}
GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t kind) { (void)source, (void)kind; return GC_ERR_SUCCESS; }
GC_API EventGetData(EVENT_HANDLE event, void *to, size_t *room, uint64_t timeout_ms) {
    if (event != &buffer_event) return GC_ERR_INVALID_HANDLE;
    if (*room < sizeof(EVENT_NEW_BUFFER_DATA)) return GC_ERR_BUFFER_TOO_SMALL;
    int64_t due_ns = timeout_ms > 1000000000 ? INT64_MAX : now_ns() + (int64_t)timeout_ms * 1000000;
    struct timespec due = {due_ns / 1000000000, due_ns % 1000000000};
    GC_ERROR done = GC_ERR_SUCCESS;
    pthread_mutex_lock(&camera.lock);
    while (!camera.output.first && !camera.killed && now_ns() < due_ns)
        pthread_cond_timedwait(&camera.changed, &camera.lock, &due);
    Buffer *buffer = camera.killed ? NULL : queue_take(&camera.output);
    if (buffer) *(EVENT_NEW_BUFFER_DATA *)to = (EVENT_NEW_BUFFER_DATA){buffer, buffer->user};
    else done = camera.killed ? GC_ERR_ABORT : GC_ERR_TIMEOUT;
    camera.killed = false;
    pthread_mutex_unlock(&camera.lock);
    *room = sizeof(EVENT_NEW_BUFFER_DATA);
    return done;
}
GC_API EventGetDataInfo(EVENT_HANDLE event, const void *in, size_t in_size, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (event != &buffer_event || in_size < sizeof(EVENT_NEW_BUFFER_DATA)) return GC_ERR_INVALID_PARAMETER;
    const EVENT_NEW_BUFFER_DATA *data = in;
    if (what == EVENT_DATA_ID) NUMBER(void *, T_PTR, data->BufferHandle);
    if (what == EVENT_DATA_VALUE) NUMBER(void *, T_PTR, data->pUserPointer);
    return GC_ERR_NOT_IMPLEMENTED;
}
GC_API EventGetInfo(EVENT_HANDLE event, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (event != &buffer_event) return GC_ERR_INVALID_HANDLE;
    switch (what) {
    case EVENT_TYPE_INFO: NUMBER(int32_t, T_INT32, EVENT_NEW_BUFFER);
    case EVENT_NUM_IN_QUEUE: NUMBER(size_t, T_SIZET, camera.output.length);
    case EVENT_NUM_FIRED: NUMBER(uint64_t, T_UINT64, camera.delivered);
    case EVENT_SIZE_MAX: case EVENT_DATA_SIZE_MAX: NUMBER(size_t, T_SIZET, sizeof(EVENT_NEW_BUFFER_DATA));
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API EventFlush(EVENT_HANDLE event) {
    if (event != &buffer_event) return GC_ERR_INVALID_HANDLE;
    pthread_mutex_lock(&camera.lock);
    discard(&camera.output);
    pthread_mutex_unlock(&camera.lock);
    return GC_ERR_SUCCESS;
}
GC_API EventKill(EVENT_HANDLE event) {
    if (event != &buffer_event) return GC_ERR_INVALID_HANDLE;
    pthread_mutex_lock(&camera.lock);
    camera.killed = true;
    pthread_cond_broadcast(&camera.changed);
    pthread_mutex_unlock(&camera.lock);
    return GC_ERR_SUCCESS;
}

/* GenTL 1.6. */
GC_API DSAnnounceCompositeBuffer(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetNumFlows(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetFlowInfo(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetNumBufferSegments(void) { return GC_ERR_NOT_IMPLEMENTED; }
GC_API DSGetBufferSegmentInfo(void) { return GC_ERR_NOT_IMPLEMENTED; }
