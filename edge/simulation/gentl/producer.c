/* GenTL 1.5 over simulated cameras: one system, for each film that FOILSIGHT_FILM names an interface with one device on
   it. Every export of the standard is here or in stream.c; what this producer has no use for answers
   GC_ERR_NOT_IMPLEMENTED. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "description.h"
#include "module.h"

enum { DESCRIPTION_AT = 0x100000, MOST_DEVICES = 8 };

static bool initialised;
static Module system_ = {SYSTEM, NULL};
static Device devices[MOST_DEVICES];
static uint32_t device_count;

GC_ERROR answer(INFO_DATATYPE type, INFO_DATATYPE *of, const void *value, size_t size, void *to, size_t *room) {
    if (of) *of = type;
    if (!room) return GC_ERR_INVALID_PARAMETER;
    size_t given = *room;
    *room = size;
    if (!to) return GC_ERR_SUCCESS;
    if (given < size) return GC_ERR_BUFFER_TOO_SMALL;
    memcpy(to, value, size);
    return GC_ERR_SUCCESS;
}
GC_ERROR text(const char *value, INFO_DATATYPE *type, void *to, size_t *room) {
    return answer(T_STRING, type, value, strlen(value) + 1, to, room);
}

const char *transport_of(const Device *device) {
    static const char *const names[] = {[CUSTOM] = "Custom", [GEV] = "GEV", [U3V] = "U3V"};
    return names[device->camera.film->transport];
}

/* Library. */
static void plug_in(Film *film) {
    uint32_t number = device_count + 1;
    Device *device = &devices[device_count++];
    snprintf(device->id, sizeof device->id, "FoilsightStrobed%u", number);
    snprintf(device->interface_id, sizeof device->interface_id, "FoilsightInterface%u", number);
    snprintf(device->serial, sizeof device->serial, "%u", number);
    snprintf(device->name, sizeof device->name, "simulated");
    if (number > 1) snprintf(device->name, sizeof device->name, "simulated%u", number);
    for (Kind kind = INTERFACE; kind < MODULES; kind++) device->module[kind] = (Module){kind, device};
    camera_init(&device->camera, film, device->id, device->serial);
}
GC_API GCInitLib(void) {
    if (initialised) return GC_ERR_RESOURCE_IN_USE;
    const char *named = getenv("FOILSIGHT_FILM");
    char *paths = strdup(named ? named : ""), *rest = paths;
    if (!paths) return GC_ERR_OUT_OF_MEMORY;
    for (const char *path; device_count < MOST_DEVICES && (path = strsep(&rest, ":"));) {
        Film *film = film_open(path);
        if (film) plug_in(film);
    }
    free(paths);
    initialised = true;
    return GC_ERR_SUCCESS;
}
GC_API GCCloseLib(void) {
    if (!initialised) return GC_ERR_NOT_INITIALIZED;
    while (device_count) {
        camera_free(&devices[--device_count].camera);
        devices[device_count] = (Device){0};
    }
    initialised = false;
    return GC_ERR_SUCCESS;
}
GC_API GCGetLastError(GC_ERROR *error, char *message, size_t *room) {
    if (error) *error = GC_ERR_SUCCESS;
    return text("", NULL, message, room);
}

/* Ports. */
typedef struct { const char *name; const unsigned char *xml; size_t bytes; } Port;
#define PORT(name) ((Port){#name, name##_xml, sizeof name##_xml})
static Port port_of(PORT_HANDLE handle) {
    switch (((Module *)handle)->kind) {
    case REMOTE_DEVICE: return PORT(Device);
    case LOCAL_DEVICE: return PORT(TLDevice);
    case DATA_STREAM: return PORT(TLDataStream);
    case INTERFACE: return PORT(TLInterface);
    default: return PORT(TLSystem);
    }
}
GC_API GCReadPort(PORT_HANDLE handle, uint64_t address, void *to, size_t *size) {
    if (!handle) return GC_ERR_INVALID_HANDLE;
    Device *remote = device_behind(handle, REMOTE_DEVICE);
    if (address < DESCRIPTION_AT)
        return remote ? camera_read(&remote->camera, address, to, *size) : GC_ERR_INVALID_ADDRESS;
    Port port = port_of(handle);
    uint64_t at = address - DESCRIPTION_AT;
    if (at > port.bytes || *size > port.bytes - at) return GC_ERR_INVALID_ADDRESS;
    memcpy(to, port.xml + at, *size);
    return GC_ERR_SUCCESS;
}
GC_API GCWritePort(PORT_HANDLE handle, uint64_t address, const void *from, size_t *size) {
    DEVICE_OF(handle, REMOTE_DEVICE);
    return camera_write(&device->camera, address, from, *size);
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
    if (!handle) return GC_ERR_INVALID_HANDLE;
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
GC_API GCGetPortInfo(PORT_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (!handle) return GC_ERR_INVALID_HANDLE;
    const Device *device = ((Module *)handle)->device;
    switch (what) {
    case PORT_ID: return text(device ? device->id : "FoilsightProducer", type, to, room);
    case PORT_VENDOR: return text("Foilsight", type, to, room);
    case PORT_MODEL: return text("StrobedCamera", type, to, room);
    case PORT_TLTYPE: return text(device ? transport_of(device) : "Mixed", type, to, room);
    case PORT_MODULE: case PORT_PORTNAME: return text(port_of(handle).name, type, to, room);
    case PORT_LITTLE_ENDIAN: case PORT_ACCESS_READ: case PORT_ACCESS_WRITE: NUMBER(bool8_t, T_BOOL8, 1);
    case PORT_BIG_ENDIAN: case PORT_ACCESS_NA: case PORT_ACCESS_NI: NUMBER(bool8_t, T_BOOL8, 0);
    case PORT_VERSION: return text("1.0", type, to, room);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

/* System. */
static GC_ERROR about_system(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    switch (what) {
    case TL_ID: case TL_MODEL: case TL_NAME: case TL_DISPLAYNAME: return text("FoilsightProducer", type, to, room);
    case TL_VENDOR: return text("Foilsight", type, to, room);
    case TL_VERSION: return text("1.0", type, to, room);
    case TL_TLTYPE: return text("Mixed", type, to, room);
    case TL_PATHNAME: return text("foilsight.cti", type, to, room);
    case TL_CHAR_ENCODING: NUMBER(int32_t, T_INT32, CHARSET_UTF8);
    case TL_GENTL_VER_MAJOR: NUMBER(uint32_t, T_UINT32, 1);
    case TL_GENTL_VER_MINOR: NUMBER(uint32_t, T_UINT32, 5);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API GCGetInfo(int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    return about_system(what, type, to, room);
}
GC_API TLOpen(TL_HANDLE *handle) { *handle = &system_; return initialised ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED; }
GC_API TLClose(TL_HANDLE handle) { (void)handle; return GC_ERR_SUCCESS; }
GC_API TLGetInfo(TL_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    return about_system(what, type, to, room);
}
GC_API TLUpdateInterfaceList(TL_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)handle, (void)timeout_ms;
    if (changed) *changed = 1;
    return GC_ERR_SUCCESS;
}
GC_API TLGetNumInterfaces(TL_HANDLE handle, uint32_t *count) {
    (void)handle;
    *count = device_count;
    return GC_ERR_SUCCESS;
}
GC_API TLGetInterfaceID(TL_HANDLE handle, uint32_t index, char *to, size_t *room) {
    (void)handle;
    return index < device_count ? text(devices[index].interface_id, NULL, to, room) : GC_ERR_INVALID_INDEX;
}

/* Interface: a camera that is lost is not on it. */
static Device *on_interface(const char *interface_id) {
    for (uint32_t i = 0; i < device_count; i++)
        if (strcmp(devices[i].interface_id, interface_id) == 0) return &devices[i];
    return NULL;
}
static GC_ERROR about_interface(const Device *device, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    if (what == IF_ID || what == IF_DISPLAYNAME) return text(device->interface_id, type, to, room);
    return what == IF_TLTYPE ? text(transport_of(device), type, to, room) : GC_ERR_NOT_IMPLEMENTED;
}
GC_API TLGetInterfaceInfo(TL_HANDLE handle, const char *id, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    (void)handle;
    const Device *device = on_interface(id);
    return device ? about_interface(device, what, type, to, room) : GC_ERR_INVALID_ID;
}
GC_API TLOpenInterface(TL_HANDLE handle, const char *id, IF_HANDLE *opened) {
    (void)handle;
    Device *device = on_interface(id);
    if (!device) return GC_ERR_INVALID_ID;
    *opened = &device->module[INTERFACE];
    return GC_ERR_SUCCESS;
}
GC_API IFClose(IF_HANDLE handle) { (void)handle; return GC_ERR_SUCCESS; }
GC_API IFGetInfo(IF_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(handle, INTERFACE);
    return about_interface(device, what, type, to, room);
}
GC_API IFGetParentTL(IF_HANDLE handle, TL_HANDLE *parent) { (void)handle; *parent = &system_; return GC_ERR_SUCCESS; }
GC_API IFUpdateDeviceList(IF_HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)handle, (void)timeout_ms;
    if (changed) *changed = 1;
    return GC_ERR_SUCCESS;
}
GC_API IFGetNumDevices(IF_HANDLE handle, uint32_t *count) {
    DEVICE_OF(handle, INTERFACE);
    *count = !camera_is_lost(&device->camera);
    return GC_ERR_SUCCESS;
}
GC_API IFGetDeviceID(IF_HANDLE handle, uint32_t index, char *to, size_t *room) {
    DEVICE_OF(handle, INTERFACE);
    return index == 0 && !camera_is_lost(&device->camera) ? text(device->id, NULL, to, room) : GC_ERR_INVALID_INDEX;
}

/* Device. */
static GC_ERROR about_device(const Device *device, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    switch (what) {
    case DEV_ID: case DEV_DISPLAYNAME: return text(device->id, type, to, room);
    case DEV_VENDOR: return text("Foilsight", type, to, room);
    case DEV_MODEL: return text("StrobedCamera", type, to, room);
    case DEV_TLTYPE: return text(transport_of(device), type, to, room);
    case DEV_ACCESS_STATUS: NUMBER(int32_t, T_INT32, ACCESS_READWRITE);
    case DEV_USER_DEFINED_NAME: return text(device->name, type, to, room);
    case DEV_SERIAL_NUMBER: return text(device->serial, type, to, room);
    case DEV_VERSION: return text("1.0", type, to, room);
    case DEV_TIMESTAMP_FREQUENCY: NUMBER(uint64_t, T_UINT64, 1000000000);
    default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
GC_API IFGetDeviceInfo(IF_HANDLE handle, const char *id, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(handle, INTERFACE);
    return strcmp(id, device->id) == 0 ? about_device(device, what, type, to, room) : GC_ERR_INVALID_ID;
}
GC_API IFOpenDevice(IF_HANDLE handle, const char *id, int32_t access, DEV_HANDLE *opened) {
    (void)access;
    DEVICE_OF(handle, INTERFACE);
    if (strcmp(id, device->id) != 0 || camera_is_lost(&device->camera)) return GC_ERR_INVALID_ID;
    if (device->open) return GC_ERR_RESOURCE_IN_USE;
    device->open = true;
    *opened = &device->module[LOCAL_DEVICE];
    return GC_ERR_SUCCESS;
}
GC_API DevClose(DEV_HANDLE handle) {
    DEVICE_OF(handle, LOCAL_DEVICE);
    camera_stop(&device->camera);
    device->open = false;
    return GC_ERR_SUCCESS;
}
GC_API DevGetInfo(DEV_HANDLE handle, int32_t what, INFO_DATATYPE *type, void *to, size_t *room) {
    DEVICE_OF(handle, LOCAL_DEVICE);
    return about_device(device, what, type, to, room);
}
GC_API DevGetParentIF(DEV_HANDLE handle, IF_HANDLE *parent) {
    DEVICE_OF(handle, LOCAL_DEVICE);
    *parent = &device->module[INTERFACE];
    return GC_ERR_SUCCESS;
}
GC_API DevGetPort(DEV_HANDLE handle, PORT_HANDLE *port) {
    DEVICE_OF(handle, LOCAL_DEVICE);
    *port = &device->module[REMOTE_DEVICE];
    return GC_ERR_SUCCESS;
}
GC_API DevGetNumDataStreams(DEV_HANDLE handle, uint32_t *count) { (void)handle; *count = 1; return GC_ERR_SUCCESS; }
GC_API DevGetDataStreamID(DEV_HANDLE handle, uint32_t index, char *to, size_t *room) {
    (void)handle;
    return index == 0 ? text(STREAM_NAME, NULL, to, room) : GC_ERR_INVALID_INDEX;
}
GC_API DevOpenDataStream(DEV_HANDLE handle, const char *id, DS_HANDLE *opened) {
    DEVICE_OF(handle, LOCAL_DEVICE);
    if (strcmp(id, STREAM_NAME) != 0) return GC_ERR_INVALID_ID;
    *opened = &device->module[DATA_STREAM];
    return GC_ERR_SUCCESS;
}
