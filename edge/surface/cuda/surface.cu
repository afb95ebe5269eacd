// From strobes in device memory to the windows that the network sees: correct, register, solve, normalise, checksum.
//
// A thread takes one column of ROWS neighbouring rows. The matrices of its column stay in registers from row to row;
// threads that lie side by side read and write side by side. Nothing is kept between: what is solved goes straight to
// its places in the windows, halos included. The arithmetic is that of the NumPy reference in single precision; the
// rules by which three lights are trusted where a fourth misled are `edge.surface.fallback`'s, and what is usual in a
// block of rows, which they ask for, `edge.surface.tolerance`'s: two small kernels find it before. All constants that
// Python has too stand before this file.

#define TAPS 6
#define MOST_SQUARE 3e38f
#define NO_LIMIT 3.4e38f

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

// Rows that share what is usual, all seen under four lights: those of them that are looked at, and their table.
struct Block {
    int rows[2], table;
};

struct Usual {
    float residual, first_quartile, albedo, third_quartile;
};

struct Arguments {
    const float *dark, *gain;       // (lights, height, width)
    const float *table;             // (tables, LINES, width)
    const int *lights;              // (tables, LIGHTS): which light stands at which place of a table
    const Source *sources;          // (lights, rows)
    const int *table_of_row;        // (rows): -1 where too few lights have seen it
    const int *block_of_row;        // (rows): -1 of three lights
    const Block *blocks;            // (block_count)
    const int *run_starts;          // (run_count): columns that are looked at, `run` from each of these on
    float *samples;                 // (2, block_count, 2 run_count run): residual and albedo
    Usual *usual;                   // (block_count)
    const Window *windows;          // (window_count)
    unsigned char *seen;            // (rows): set to 1 where a pixel can be solved
    unsigned char *valid;           // (rows, width), or null
    int rows, width, padded_width, height, window_count, block_count, run_count, run;
};

// rho n by four lights, their q without what is due to where they stand, and what c . q leaves.
struct Solution {
    float x, y, z, square, across;
};

struct Pixel {
    float x, y, z, albedo, residual;
};

struct Limits {
    float tolerance, usual, spread;
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

template <typename Count>
__device__ inline void seen_under(const Arguments &a, int table, int row, int column, float *q, float *off_centre) {
    for (int k = 0; k < LIGHTS; ++k) {
        const int light = a.lights[table * LIGHTS + k];
        const Source &source = a.sources[(long long)light * a.rows + row];
        q[k] = corrected<Count>(a, source, light, column);
        off_centre[k] = source.off_centre;
    }
}

__device__ inline void load(const Arguments &a, int number, int column, float *table) {
    const float *lines = a.table + (long long)number * LINES * a.width + column;
    for (int line = 0; line < LINES; ++line) table[line] = lines[(long long)line * a.width];
}

__device__ inline float dot(const float *line, const float *q) {
    return line[0] * q[0] + line[1] * q[1] + line[2] * q[2] + line[3] * q[3];
}

__device__ inline float greatest(const float *q) { return fmaxf(fmaxf(q[0], q[1]), fmaxf(q[2], q[3])); }

// One of four that stay in registers.
__device__ inline float its(const float *values, int k) {
    return k == 0 ? values[0] : k == 1 ? values[1] : k == 2 ? values[2] : values[3];
}

__device__ inline Solution solution(const float *table, const float *q, const float *off_centre) {
    float centred[LIGHTS];
    for (int k = 0; k < LIGHTS; ++k) centred[k] = q[k] - off_centre[k] * dot(table + LIGHTS * k, q);
    Solution s;
    s.x = dot(table + INVERSE, centred);
    s.y = dot(table + INVERSE + LIGHTS, centred);
    s.z = dot(table + INVERSE + 2 * LIGHTS, centred);
    s.across = dot(table + CHECKSUM, centred);  // not a number of three lights
    s.square = s.x * s.x + s.y * s.y + s.z * s.z;
    return s;
}

__device__ inline bool solvable(float square) { return square > MIN_ALBEDO * MIN_ALBEDO && square < MOST_SQUARE; }

// What three of four lights say of a pixel, put into `four`, and whether they may be trusted. Seldom asked for, hence
// apart: what it needs would drive what the usual way needs from the registers.
__device__ __noinline__ bool mended(
    const Arguments &a, int number, int column, const float *q, const float *off_centre, const Limits &limits,
    Solution &four
) {
    float table[LINES];
    load(a, number, column, table);
    const float floor = SHADOW * greatest(q), residual = fabsf(four.across) / sqrtf(four.square);
    const bool beyond = residual > limits.tolerance;
    const float *c = table + CHECKSUM, *saturation = table + SATURATION;
    bool any_named = false, several_named = false;
    for (int k = 0; k < LIGHTS; ++k) {
        const bool named = !(q[k] > floor) || !(q[k] < saturation[k]);
        several_named = several_named || (any_named && named);
        any_named = any_named || named;
    }
    if (several_named) return false;
    int at = -1;
    float brightest = 0, weakest = MOST_SQUARE;
    for (int k = 0; k < LIGHTS; ++k) {
        const bool bright = fabsf(c[k]) > MIN_SHARE && four.across / c[k] > 0;
        const bool named = !(q[k] > floor) || !(q[k] < saturation[k]);
        if (bright) weakest = fminf(weakest, q[k]);
        if ((any_named ? named : bright) && (at < 0 || q[k] > brightest)) {
            at = k;
            brightest = q[k];
        }
    }
    if (at < 0) return false;
    const float share = its(c, at), own = its(q, at);
    if (!(fabsf(share) > MIN_SHARE)) return false;

    // Twice: the row term was taken off with what the light that misled had said.
    float without[LIGHTS], excess = four.across / share;
    for (int k = 0; k < LIGHTS; ++k) without[k] = k == at ? q[k] - excess : q[k];
    Solution three = solution(table, without, off_centre);
    const float rest = three.across / share;
    excess += rest;
    for (int k = 0; k < LIGHTS; ++k) without[k] = k == at ? q[k] - excess : q[k];
    three.x -= its(table + INVERSE, at) * rest;
    three.y -= its(table + INVERSE + LIGHTS, at) * rest;
    three.z -= its(table + INVERSE + 2 * LIGHTS, at) * rest;
    three.square = three.x * three.x + three.y * three.y + three.z * three.z;
    three.across = four.across;
    if (!solvable(three.square)) return false;

    const float albedo = sqrtf(three.square);
    const bool dark = !(own > floor), saturated = !(own < its(saturation, at)), bright = four.across / share > 0;
    const bool faces = greatest(without) <= own - excess + FACING * albedo;
    const bool told = weakest > OPPOSITE * albedo &&
                      (weakest + 2 * excess) * albedo > ATTACHED * (limits.usual * limits.usual);
    const bool glint = faces && (saturated || (bright && beyond && told));
    const bool fits = albedo < limits.usual + limits.spread && (excess >= 0 || albedo > limits.usual - limits.spread);
    const bool shadow = dark && (!beyond || fits);
    if (!(any_named && !saturated ? shadow : glint)) return false;
    four.x = three.x, four.y = three.y, four.z = three.z, four.square = three.square;
    return true;
}

__device__ inline Limits limits_of(const Arguments &a, int row) {
    const int block = a.block_of_row[row];
    if (block < 0) return Limits{NO_LIMIT, NO_LIMIT, NO_LIMIT};
    const Usual usual = a.usual[block];
    return Limits{
        fmaxf(MIN_TOLERANCE, PER_MEDIAN * usual.residual),
        usual.albedo,
        fmaxf(MIN_SPREAD * usual.albedo, PER_QUARTILES * (usual.third_quartile - usual.first_quartile)),
    };
}

__device__ inline void store(const Arguments &a, const Pixel &pixel, int row, int column) {
    for (int w = 0; w < a.window_count; ++w) {
        const Window &window = a.windows[w];
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
        bool trusted = false;
        if (wanted >= 0) {
            if (wanted != loaded) load(a, wanted, column, table);
            loaded = wanted;
            float q[LIGHTS], off_centre[LIGHTS];
            seen_under<Count>(a, wanted, row, column, q, off_centre);
            Solution four = solution(table, q, off_centre);
            pixel.albedo = 0;
            if (solvable(four.square)) {
                const Limits limits = limits_of(a, row);
                pixel.residual = four.across * (1 / sqrtf(four.square));
                const float floor = SHADOW * greatest(q);
                trusted = !(fabsf(pixel.residual) > limits.tolerance);
                for (int k = 0; k < LIGHTS; ++k) trusted = trusted && q[k] > floor && q[k] < table[SATURATION + k];
                if (!trusted) trusted = mended(a, wanted, column, q, off_centre, limits, four);
                pixel.albedo = sqrtf(four.square);
                const float scale = 1 / pixel.albedo;
                pixel.x = four.x * scale, pixel.y = four.y * scale, pixel.z = four.z * scale;
            }
        }
        for (int c = column; c < (column == a.width - 1 ? a.padded_width : column + 1); ++c) store(a, pixel, row, c);
        if (a.valid) a.valid[(long long)row * a.width + column] = trusted;
        if (trusted) a.seen[row] = 1;  // whoever comes first or last: they all say the same
    }
}

// Residual and albedo of what is looked at, a thread each.
template <typename Count>
__device__ void sample(const Arguments &a) {
    const int each = a.run_count * a.run, count = a.block_count * 2 * each;
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const Block &block = a.blocks[at / (2 * each)];
    const int row = block.rows[at / each % 2], column = a.run_starts[at % each / a.run] + at % a.run;
    float table[LINES], q[LIGHTS], off_centre[LIGHTS];
    load(a, block.table, column, table);
    seen_under<Count>(a, block.table, row, column, q, off_centre);
    const Solution four = solution(table, q, off_centre);
    const float albedo = sqrtf(four.square);
    a.samples[at] = fabsf(four.across) / albedo;
    a.samples[count + at] = albedo;
}

// What is usual in a block: each sample finds its own place among those of its block, and says so if it is asked for.
extern "C" __global__ void quartiles(const Arguments a) {
    const int each = 2 * a.run_count * a.run, count = a.block_count * each;
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const int first = at / each * each;
    const float *residuals = a.samples + first, *albedos = residuals + count;
    const int own = at - first;
    int known = 0, below = 0, below_albedo = 0, own_number = 0;
    for (int k = 0; k < each; ++k) {
        if (!(residuals[k] < NO_LIMIT)) continue;
        if (k == own) own_number = known;
        below += residuals[k] < residuals[own] || (residuals[k] == residuals[own] && k < own);
        if (known % EVERY == 0)
            below_albedo += albedos[k] < albedos[own] || (albedos[k] == albedos[own] && k < own);
        ++known;
    }
    Usual &usual = a.usual[at / each];
    if (!known && !own) usual = Usual{0, 0, 0, 0};
    if (!(residuals[own] < NO_LIMIT)) return;
    if (below == (known - 1) / 2) usual.residual = residuals[own];
    const int few = (known + EVERY - 1) / EVERY;
    if (own_number % EVERY) return;
    if (below_albedo == (few - 1) / 4) usual.first_quartile = albedos[own];
    if (below_albedo == (few - 1) / 2) usual.albedo = albedos[own];
    if (below_albedo == 3 * (few - 1) / 4) usual.third_quartile = albedos[own];
}

extern "C" __global__ void sample_u8(const Arguments a) { sample<unsigned char>(a); }
extern "C" __global__ void sample_u16(const Arguments a) { sample<unsigned short>(a); }
extern "C" __global__ void surface_u8(const Arguments a) { surface<unsigned char>(a); }
extern "C" __global__ void surface_u16(const Arguments a) { surface<unsigned short>(a); }
