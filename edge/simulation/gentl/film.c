#define _GNU_SOURCE
#include "film.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t images_at(const Film *film) {
    size_t counts = (size_t)film->triggers * sizeof(int64_t);
    return PAGE + (counts + PAGE - 1) / PAGE * PAGE;
}

static size_t image_bytes(const Film *film) { return (size_t)film->width * film->height * film->bytes_per_pixel; }

Film *film_open(const char *path) {
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0 || status.st_size < PAGE) return NULL;
    Film *film = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (film == MAP_FAILED) return NULL;
    size_t needed = images_at(film) + image_bytes(film) * film->triggers * film->lights;
    if (memcmp(film->magic, "FOILFILM", 8) != 0 || film->triggers == 0 || (size_t)status.st_size < needed) {
        munmap(film, (size_t)status.st_size);
        return NULL;
    }
    return film;
}

const uint8_t *film_image(const Film *film, int64_t trigger, int light) {
    size_t number = (size_t)(trigger % film->triggers) * film->lights + (size_t)light;
    return (const uint8_t *)film + images_at(film) + number * image_bytes(film);
}

/* A jump stays, jitter is of one exposure: a normal deviate by Box and Muller from a hash of the trigger. */
int64_t film_count(const Film *film, int64_t trigger) {
    const int64_t *counts = (const int64_t *)((const uint8_t *)film + PAGE);
    double off = 0;
    for (int64_t i = 0; i < film->faults; i++) {
        int64_t since = trigger - film->fault[i].at_trigger;
        if (film->fault[i].kind == ENCODER_JUMP && since >= 0) off += film->fault[i].value;
        if (film->fault[i].kind == ENCODER_JITTER && since >= 0 && since < film->fault[i].triggers) {
            uint64_t hash = ((uint64_t)trigger + 1) * 0x9E3779B97F4A7C15u;
            hash = (hash ^ (hash >> 31)) * 0xBF58476D1CE4E5B9u;
            double u = ((double)(hash >> 40) + 1) / 16777217.0, v = (double)((hash >> 16) & 0xFFFFFF) / 16777216.0;
            off += film->fault[i].value * sqrt(-2 * log(u)) * cos(2 * M_PI * v);
        }
    }
    int64_t round = trigger / film->triggers;
    return counts[trigger % film->triggers] + round * film->counts_a_round + llround(off);
}

int64_t film_trigger_at(const Film *film, int64_t now_ns) {
    if (film->interval_ns == 0 || film->began_ns == 0 || now_ns < film->began_ns) return film->next_trigger;
    return (now_ns - film->began_ns) / film->interval_ns;
}

Struck film_faults(const Film *film, int64_t trigger, int light) {
    Struck struck = {0};
    for (int64_t i = 0; i < film->faults; i++) {
        int64_t since = trigger - film->fault[i].at_trigger;
        bool of_it = film->fault[i].light < 0 || film->fault[i].light == light;
        if (since < 0 || since >= film->fault[i].triggers || !of_it) continue;
        int kind = film->fault[i].kind;
        struck.on[kind] = true;
        struck.value[kind] = kind == LAMP_DYING ? film->fault[i].value * (double)(since / film->lights + 1)
                                                : film->fault[i].value;
    }
    return struck;
}
