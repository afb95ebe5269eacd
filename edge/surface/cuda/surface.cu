// From strobes in device memory to the windows that the network sees: correct, register, solve, normalise, checksum.
//
// A thread takes one column of ROWS neighbouring rows. The matrices of its column stay in registers from row to row;
// threads that lie side by side read and write side by side. Nothing is kept between: what is solved goes straight to
// its places in the windows, halos included. The arithmetic is that of the NumPy reference in single precision.

#define ROWS 4
#define LIGHTS 4
#define TAPS 6
#define LINES 36
#define CHANNELS 6
#define SHADOW 0.05f
#define LEAST_SQUARE 1e-24f
#define MOST_SQUARE 3e38f

// Lines of the table, LIGHTS each: how much of each light's q is due to where another one stands (4), the inverse (3),
// the checksum, the saturation.
#define INVERSE 16
#define CHECKSUM 28
#define SATURATION 32

// Where a row of web comes from under one light: a strobe (height, width), taps of its rows from `row` on, and of
// columns from `column` on, which counts from the column itself.
struct Source {
    const void *strobe;
    int row, taps, column, column_taps;
    float off_centre;
    float weight[TAPS], column_weight[TAPS];
};

// A window (channels, rows, columns): row r of the strip is its row (r + row_shift) / row_step, where that is whole.
// Channels: x, y, z of the normal, albedo, residual (0 where there is none), checksum (the residual, not a number where
// there is none).
struct Window {
    float *planes;
    int row_shift, row_step, rows, first_column, columns, channel_count, channels[CHANNELS];
};

struct Arguments {
    const float *dark, *gain;       // (lights, height, width)
    const float *table;             // (tables, LINES, width)
    const int *lights;              // (tables, LIGHTS): which light stands at which place of a table
    const Source *sources;          // (lights, rows)
    const int *table_of_row;        // (rows): -1 where too few lights have seen it
    const float *tolerance;         // (rows): of the residual
    const Window *windows;          // (window_count)
    unsigned char *seen;            // (rows): set to 1 where a pixel can be solved
    unsigned char *valid;           // (rows, width), or null
    int rows, width, padded_width, height, window_count;
};

struct Pixel {
    float x, y, z, albedo, residual;
};

template <typename Count>
__device__ float corrected(const Arguments &a, const Source &source, int light, int column) {
    const Count *strobe = static_cast<const Count *>(source.strobe);
    float sum = 0;
    for (int across = 0; across < source.column_taps; ++across) {
        int at = column + source.column + across;
        at = at < 0 ? 0 : at >= a.width ? a.width - 1 : at;
        float value = 0;
        for (int tap = 0; tap < source.taps; ++tap) {
            const long long row = source.row + tap;
            const long long field = (light * (long long)a.height + row) * a.width + at;
            value += (strobe[row * a.width + at] - a.dark[field]) * (a.gain[field] * source.weight[tap]);
        }
        sum += value * source.column_weight[across];
    }
    return sum;
}

__device__ inline float dot(const float *line, const float *q) {
    return line[0] * q[0] + line[1] * q[1] + line[2] * q[2] + line[3] * q[3];
}

// What four lights say of a pixel. `solved` and `trusted` as in the reference.
__device__ inline Pixel solution(
    const float *table, const float *q, const float *off_centre, float tolerance, bool &solved, bool &trusted
) {
    float centred[LIGHTS];
    for (int k = 0; k < LIGHTS; ++k) centred[k] = q[k] - off_centre[k] * dot(table + LIGHTS * k, q);
    const float x = dot(table + INVERSE, centred);
    const float y = dot(table + INVERSE + LIGHTS, centred);
    const float z = dot(table + INVERSE + 2 * LIGHTS, centred);
    const float square = x * x + y * y + z * z;
    solved = square > LEAST_SQUARE && square < MOST_SQUARE;
    if (!solved) {
        trusted = false;
        return Pixel{0, 0, 1, 0, nanf("")};
    }
    const float albedo = sqrtf(square), scale = 1 / albedo;
    const float residual = dot(table + CHECKSUM, centred) * scale;  // not a number of three lights
    const float brightest = fmaxf(fmaxf(q[0], q[1]), fmaxf(q[2], q[3]));
    trusted = !(fabsf(residual) > tolerance);
    for (int k = 0; k < LIGHTS; ++k) trusted = trusted && q[k] > SHADOW * brightest && q[k] < table[SATURATION + k];
    return Pixel{x * scale, y * scale, z * scale, albedo, residual};
}

__device__ inline void store(const Arguments &a, const Pixel &pixel, int row, int column) {
    for (int w = 0; w < a.window_count; ++w) {
        const Window window = a.windows[w];
        const int shifted = row + window.row_shift, to_column = column - window.first_column;
        if (shifted < 0 || shifted % window.row_step || to_column < 0 || to_column >= window.columns) continue;
        const int to_row = shifted / window.row_step;
        if (to_row >= window.rows) continue;
        const long long plane = (long long)window.rows * window.columns;
        float *to = window.planes + (long long)to_row * window.columns + to_column;
        for (int c = 0; c < window.channel_count; ++c, to += plane) {
            const int channel = window.channels[c];
            *to = channel == 0   ? pixel.x
                  : channel == 1 ? pixel.y
                  : channel == 2 ? pixel.z
                  : channel == 3 ? pixel.albedo
                  : channel == 4 && pixel.residual != pixel.residual ? 0
                                                                     : pixel.residual;
        }
    }
}

template <typename Count>
__device__ void surface(const Arguments &a) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= a.width) return;
    float table[LINES];
    int loaded = -1;
    for (int at = 0; at < ROWS; ++at) {
        const int row = blockIdx.y * ROWS + at;
        if (row >= a.rows) return;
        const int wanted = a.table_of_row[row];
        Pixel pixel{0, 0, 1, 1, nanf("")};
        bool solved = false, trusted = false;
        if (wanted >= 0) {
            if (wanted != loaded) {
                const float *lines = a.table + (long long)wanted * LINES * a.width + column;
                for (int line = 0; line < LINES; ++line) table[line] = lines[(long long)line * a.width];
                loaded = wanted;
            }
            float q[LIGHTS], off_centre[LIGHTS];
            for (int k = 0; k < LIGHTS; ++k) {
                const int light = a.lights[wanted * LIGHTS + k];
                const Source &source = a.sources[(long long)light * a.rows + row];
                q[k] = corrected<Count>(a, source, light, column);
                off_centre[k] = source.off_centre;
            }
            pixel = solution(table, q, off_centre, a.tolerance[row], solved, trusted);
        }
        for (int c = column; c < (column == a.width - 1 ? a.padded_width : column + 1); ++c) store(a, pixel, row, c);
        if (a.valid) a.valid[(long long)row * a.width + column] = trusted;
        if (trusted) a.seen[row] = 1;  // whoever comes first or last: they all say the same
    }
}

extern "C" __global__ void surface_u8(const Arguments a) { surface<unsigned char>(a); }
extern "C" __global__ void surface_u16(const Arguments a) { surface<unsigned short>(a); }
