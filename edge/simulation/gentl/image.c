#define _GNU_SOURCE
#include "image.h"

#include <endian.h>
#include <math.h>
#include <string.h>

const Format *format_of(int64_t code) {
    static const Format formats[] = {
        {F_MONO8, 8, PLAIN},         {F_MONO10, 10, PLAIN},       {F_MONO12, 12, PLAIN}, {F_MONO16, 16, PLAIN},
        {F_MONO10P, 10, STREAM},     {F_MONO12P, 12, STREAM},     {F_MONO10PACKED, 10, PAIRS},
        {F_MONO12PACKED, 12, PAIRS},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].code == code) return formats + i;
    return NULL;
}

/* The PFNC keeps the bits that a pixel takes up in the third byte of its codes. Widths are multiples of four. */
static size_t line_bytes(const Shape *shape) { return shape->width / 4 * (shape->format->code >> 16 & 0xFF) / 2; }
static size_t stride(const Shape *shape) { return line_bytes(shape) + shape->padding_bytes; }

size_t image_bytes(const Shape *shape) { return stride(shape) * shape->height; }

/* From a count of the film to that of the format; `strength` in parts of 65536. */
typedef struct { const uint8_t *pixels; size_t pixel_bytes; uint32_t strength; int more_bits; } Source;

static uint32_t count_at(const Source *source, size_t column) {
    uint64_t count = source->pixel_bytes == 1 ? source->pixels[column] : ((const uint16_t *)source->pixels)[column];
    count = count * source->strength >> 16;
    return (uint32_t)(source->more_bits < 0 ? count >> -source->more_bits : count << source->more_bits);
}

static void pack_stream(const Source *source, const Shape *shape, uint8_t *to) {
    uint32_t held = 0;
    int bits = 0;
    for (size_t c = 0; c < shape->width; c++) {
        held |= count_at(source, c) << bits;
        for (bits += shape->format->bits; bits >= 8; bits -= 8, held >>= 8) *to++ = (uint8_t)held;
    }
}

static void pack_pairs(const Source *source, const Shape *shape, uint8_t *to) {
    int low = shape->format->bits - 8;
    uint32_t mask = (1u << low) - 1;
    for (size_t c = 0; c < shape->width; c += 2, to += 3) {
        uint32_t first = count_at(source, c), second = count_at(source, c + 1);
        to[0] = (uint8_t)(first >> low);
        to[1] = (uint8_t)((first & mask) | (second & mask) << 4);
        to[2] = (uint8_t)(second >> low);
    }
}

static void write_plain(const Source *source, const Shape *shape, uint8_t *to) {
    size_t bytes = shape->format->bits == 8 ? 1 : 2;
    if (source->strength == 65536 && source->more_bits == 0) {
        memcpy(to, source->pixels, shape->width * bytes);
        return;
    }
    for (size_t c = 0; c < shape->width; c++, to += bytes) {
        uint16_t count = htole16((uint16_t)count_at(source, c));
        memcpy(to, &count, bytes);
    }
}

void paint(const Film *film, const Shape *shape, int64_t trigger, int light, double strength, uint8_t *to) {
    Source source = {.pixel_bytes = film_pixel_bytes(film),
                     .strength = (uint32_t)lround(fmin(1, fmax(0, strength)) * 65536),
                     .more_bits = shape->format->bits - (int)film->bits};
    if (light >= 0) source.pixels = film_image(film, trigger, light);
    for (uint32_t row = 0; row < shape->height; row++, to += stride(shape)) {
        memset(to + line_bytes(shape), 0xAA, shape->padding_bytes);
        if (light < 0) {
            memset(to, 0, line_bytes(shape));
            continue;
        }
        if (shape->format->packing == PLAIN) write_plain(&source, shape, to);
        else (shape->format->packing == STREAM ? pack_stream : pack_pairs)(&source, shape, to);
        source.pixels += film->width * source.pixel_bytes;
    }
}

enum { TRAILER_BYTES = 8 };

static size_t image_chunk_bytes(const Shape *shape) { return (image_bytes(shape) + 3) / 4 * 4; }

size_t chunk_offset(const Shape *shape, uint32_t chunks, int chunk) {
    size_t before = (size_t)__builtin_popcount(chunks & ((1u << chunk) - 1));
    return image_chunk_bytes(shape) + TRAILER_BYTES + before * (CHUNK_BYTES + TRAILER_BYTES);
}

size_t chunked_bytes(const Shape *shape, uint32_t chunks) { return chunk_offset(shape, chunks, CHUNKS); }

/* GigE Vision sends it big-endian, USB3 Vision little-endian. */
static void write_trailer(uint32_t id, size_t length, uint32_t transport, uint8_t *to) {
    uint32_t trailer[2] = {id, (uint32_t)length};
    for (int i = 0; i < 2; i++) trailer[i] = transport == GEV ? htobe32(trailer[i]) : htole32(trailer[i]);
    memcpy(to, trailer, sizeof trailer);
}

void write_chunks(const Shape *shape, uint32_t chunks, const void *values[CHUNKS], uint32_t transport, uint8_t *to) {
    memset(to + image_bytes(shape), 0, image_chunk_bytes(shape) - image_bytes(shape));
    write_trailer(IMAGE_CHUNK_ID, image_chunk_bytes(shape), transport, to + image_chunk_bytes(shape));
    for (int i = 0; i < CHUNKS; i++) {
        if (!(chunks >> i & 1)) continue;
        uint8_t *at = to + chunk_offset(shape, chunks, i);
        memcpy(at, values[i], CHUNK_BYTES);
        write_trailer(chunk_id(i), CHUNK_BYTES, transport, at + CHUNK_BYTES);
    }
}
