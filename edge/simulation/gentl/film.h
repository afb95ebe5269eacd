/* The web the camera looks at, rendered beforehand: a file, mapped. `edge.simulation.producer` writes it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The file: this header, then at PAGE the encoder's count at each trigger (int64), then at the next page the images,
   one under each light for every trigger. All little-endian. */
enum { PAGE = 4096 };
typedef struct {
    char magic[8];
    uint32_t width, height, bits, triggers, lights, repeats;
    uint32_t transport;            /* that the camera is on */
    uint32_t padding_bytes;        /* that it sends after each line */
    int64_t interval_ns;           /* between triggers; 0: as fast as buffers are given */
    int64_t counts_a_round;        /* by which the encoder has gone on when the film begins anew */
    int64_t faults;                /* how many follow in `fault` */
    _Atomic int64_t began_ns;      /* when trigger 0 was due, on the monotonic clock; 0 before the first acquisition */
    _Atomic int64_t next_trigger;  /* how far the camera has come, whoever runs it */
    struct {
        int32_t kind, light; /* light -1: of any */
        int64_t at_trigger, triggers;
        double value;
    } fault[64];
} Film;

/* In the order of `TRANSPORTS` in features.py. */
enum { CUSTOM, GEV, U3V };

/* In the order of `edge.core.faults`: of frames, then of cameras. */
enum { LOST, REPEATED, SWAPPED, INCOMPLETE, DARK, ENCODER_JUMP, ENCODER_JITTER, LATE, WRONG_LIGHT, LAMP_DYING,
       TRIGGER_STOPS, DEVICE_LOST, HANG, CRASH, FAULT_KINDS };

/* What strikes one exposure: `on[kind]`, with `value[kind]`. */
typedef struct { bool on[FAULT_KINDS]; double value[FAULT_KINDS]; } Struck;

Film *film_open(const char *path);
void film_close(Film *film);
/* Of a pixel as it is stored. */
size_t film_pixel_bytes(const Film *film);
const uint8_t *film_image(const Film *film, int64_t trigger, int light);
int64_t film_count(const Film *film, int64_t trigger);
/* The trigger that is due at a time, in real time. */
int64_t film_trigger_at(const Film *film, int64_t now_ns);
Struck film_faults(const Film *film, int64_t trigger, int light);
