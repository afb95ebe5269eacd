// A driver library made of this machine's memory, for the calls that edge/core/cuda.py makes: all is done at once.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long long Pointer;
static int retained;
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int number) { *device = number; return number ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "pretended", size); return device; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 8 : which == 76 ? 6 : -1; return device; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { ++retained; *context = &retained; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return --retained < 0 ? 999 : device; }
int cuCtxSetCurrent(void *context) { return context == &retained ? 0 : 201; }
int cuCtxSynchronize(void) { return 0; }
int cuMemAlloc_v2(Pointer *to, size_t size) { *to = (Pointer)malloc(size); return size > 1ull << 40 ? 2 : 0; }
int cuMemFree_v2(Pointer at) { free((void *)at); return 0; }
int cuMemHostAlloc(void **to, size_t size, unsigned flags) { *to = malloc(size); return flags; }
int cuMemFreeHost(void *at) { free(at); return 0; }
int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *stream) { memcpy((void *)to, from, size); return stream ? 0 : 400; }
int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *stream) { memcpy(to, (void *)from, size); return stream ? 0 : 400; }
int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, void *stream) { memcpy((void *)to, (void *)from, size); return stream ? 0 : 400; }
int cuMemsetD8Async(Pointer to, unsigned char value, size_t size, void *stream) { memset((void *)to, value, size); return stream ? 0 : 400; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return flags == 1 ? 0 : 1; }
int cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return stream && event ? flags : 400; }
int cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return flags; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventRecord(void *event, void *stream) { return stream && event ? 0 : 400; }
int cuEventQuery(void *event) { static int asked; return event ? (asked++ ? 0 : 600) : 400; }  // not the first time
int cuEventSynchronize(void *event) { return event ? 0 : 400; }
int cuEventElapsedTime(float *ms, void *first, void *last) { *ms = 1.5f; return first && last ? 0 : 400; }
int cuEventElapsedTime_v2(float *ms, void *first, void *last) { return cuEventElapsedTime(ms, first, last); }
int cuModuleLoadData(void **module, const void *image) { *module = malloc(1); return memcmp(image, "\177ELF", 4) ? 200 : 0; }
int cuModuleUnload(void *module) { free(module); return 0; }
// The one kernel there is copies its first argument, a structure of two pointers and a number, from here to there.
struct Copy { char *to; const char *from; long long size; };
int cuModuleGetFunction(void **kernel, void *module, const char *name) { *kernel = module; return strcmp(name, "copied") ? 500 : 0; }
int cuLaunchKernel(void *kernel, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *stream, void **arguments, void **extra) {
    const struct Copy *copy = arguments[0];
    if (!kernel || !stream || extra || x != 2 || y != 3 || z != 1 || bx != 64 || by != 1 || bz != 1 || shared) return 719;
    memcpy(copy->to, copy->from, copy->size);
    return 0;
}

// What is captured is done at once all the same, and a graph does nothing: there is one, drawn between begin and end.
static int capturing, drawn;
int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = stream && mode == 1; return capturing ? 0 : 400; }
int cuStreamEndCapture(void *stream, void **graph) { *graph = &drawn; if (!capturing) return 901; capturing = 0; return stream ? 0 : 400; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, Pointer flags) { *executable = malloc(1); return graph == &drawn ? flags : 1; }
int cuGraphDestroy(void *graph) { return graph == &drawn ? 0 : 400; }
int cuGraphLaunch(void *executable, void *stream) { return executable && stream ? 0 : 400; }
int cuGraphExecDestroy(void *executable) { free(executable); return 0; }

int cuGetProcAddress_v2(const char *symbol, void **found, int version, Pointer flags, int *status) {
    char name[200];
    snprintf(name, sizeof name, "%s_v2", symbol);
    static void *self;
    if (!self) {
        Dl_info info;
        dladdr((void *)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW);
    }
    if (!(*found = dlsym(self, name))) *found = dlsym(self, symbol);
    if (status) *status = *found ? 0 : 1;
    return *found ? 0 : 500;
}
