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

size_t film_pixel_bytes(const Film *film) { return film->bits == 8 ? 1 : 2; }

static size_t one_image_bytes(const Film *film) { return (size_t)film->width * film->height * film_pixel_bytes(film); }

static size_t film_bytes(const Film *film) {
    return images_at(film) + one_image_bytes(film) * film->triggers * film->lights;
}

Film *film_open(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return NULL;
    struct stat status;
    bool has_header = fstat(file, &status) == 0 && status.st_size >= PAGE;
    size_t size = (size_t)status.st_size;
    Film *film = has_header ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    if (film == MAP_FAILED) return NULL;
    if (memcmp(film->magic, "FOILFILM", 8) == 0 && film->transport <= U3V && film->triggers && film->lights
        && film_bytes(film) == size)
        return film;
    munmap(film, size);
    return NULL;
}

void film_close(Film *film) { munmap(film, film_bytes(film)); }

const uint8_t *film_image(const Film *film, int64_t trigger, int light) {
    size_t number = (size_t)(trigger % film->triggers) * film->lights + (size_t)light;
    return (const uint8_t *)film + images_at(film) + number * one_image_bytes(film);
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
