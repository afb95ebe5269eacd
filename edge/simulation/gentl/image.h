/* What a camera writes into a buffer: an image in a pixel format of the PFNC, and chunks behind it. */
#pragma once
#include "film.h"
#include "registers.h"

/* `bits` that a pixel fills: each for itself in bytes of its own, as a stream without gaps (`p`), or two in three
   bytes, their low bits in the middle one (GigE Vision's `Packed`). */
typedef struct { uint32_t code; int bits; enum { PLAIN, STREAM, PAIRS } packing; } Format;

typedef struct { const Format *format; uint32_t width, height, padding_bytes; } Shape;

/* NULL for a code that no camera here knows. */
const Format *format_of(int64_t code);
size_t image_bytes(const Shape *shape);
/* The film's view at a trigger under a light (-1: none), its counts scaled to the bits of the format. */
void paint(const Film *film, const Shape *shape, int64_t trigger, int light, double strength, uint8_t *to);

/* Image and chunks lie as the standards for GigE and USB3 have it: each followed by its ID and its length, the image
   first, filled up to a multiple of four bytes. `chunks`: a bit for each that is on. */
size_t chunked_bytes(const Shape *shape, uint32_t chunks);
/* Where the data of a chunk begins. */
size_t chunk_offset(const Shape *shape, uint32_t chunks, int chunk);
enum { IMAGE_CHUNK_ID = 0x100, CHUNK_BYTES = 8 };
static inline uint32_t chunk_id(int chunk) { return (uint32_t)chunk + 1; }
void write_chunks(const Shape *shape, uint32_t chunks, const void *values[CHUNKS], uint32_t transport, uint8_t *to);
