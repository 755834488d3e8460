// Attention whose scores stay on the chip: "FlashAttention-2" (Dao 2023), algorithm 1, for factors of 16
// bits and sums in f32.
//
// Queries are [batch, queries, heads * size] in memory, keys and values [batch, keys, heads * size], as
// the layers before and after have them: nothing is transposed. Sizes of heads are multiples of 8.
//
// A block has 128 threads and 64 queries of one head, a warp 16 of these. Keys and values come in tiles,
// copied while the products before are computed. A head larger than WIDTH is read in passes of WIDTH to
// make the scores, and a block then makes WIDTH columns of its result: the scores are made again for
// every such part, which for a VAE's head of 512 costs less than sums of 512 columns would.
#ifndef NEGKIT_EMULATED
#include "instructions.cuh"
#endif

constexpr int THREADS = 128;
constexpr int QUERIES = 64;

struct Arguments {
    const void *q;
    const void *k;
    const void *v;
    void *out;
    // Of queries and of keys, for every element of the batch.
    int queries;
    int keys;
    int heads;
    // Columns of one head.
    int size;
    // The softmax's scale, times log2(e).
    float scale;
    int causal;
};

// A matrix in shared memory. With these 8 columns more, eight rows begin in eight different groups of
// banks: an odd number of 16 bytes apart.
template <int WIDTH> constexpr int PITCH = WIDTH + 8;

// Begins to copy `ROWS` rows of `WIDTH` columns; those beyond `rows` and `columns` become zeros.
template <typename T, int ROWS, int WIDTH>
__device__ __forceinline__ void copy_tile(T *tile, const T *from, long long stride, int rows,
                                          int columns) {
    constexpr int PIECES = WIDTH / 8;
    for (int piece = threadIdx.x; piece < ROWS * PIECES; piece += THREADS) {
        const int row = piece / PIECES;
        const int column = piece % PIECES * 8;
        const bool there = row < rows && column < columns;
        copy_16_bytes(tile + row * PITCH<WIDTH> + column, there ? from + row * stride + column : from,
                      there);
    }
}

template <typename T, int WIDTH, int KEYS> __device__ __forceinline__ void attend(const Arguments &a) {
    alignas(16) __shared__ T q_tile[QUERIES * PITCH<WIDTH>];
    alignas(16) __shared__ T k_tile[KEYS * PITCH<WIDTH>];
    alignas(16) __shared__ T v_tile[KEYS * PITCH<WIDTH>];
    constexpr float NOTHING = -__builtin_inff();

    const int lane = threadIdx.x % 32;
    const int first_of_warp = threadIdx.x / 32 * 16;
    const int first_query = blockIdx.x * QUERIES;
    const int element = blockIdx.y / a.heads;
    const int head = blockIdx.y % a.heads;
    const int part = blockIdx.z * WIDTH;
    const long long stride = static_cast<long long>(a.heads) * a.size;
    const int first_column = head * a.size;
    // In elements: more than 32 bits hold.
    const long long of_queries = element * (a.queries * stride) + first_column;
    const long long of_keys = element * (a.keys * stride) + first_column;
    const T *q = static_cast<const T *>(a.q) + of_queries + first_query * stride;
    const T *k = static_cast<const T *>(a.k) + of_keys;
    const T *v = static_cast<const T *>(a.v) + of_keys + part;

    const int passes = (a.size + WIDTH - 1) / WIDTH;
    // With the causal mask no query of the block sees keys beyond its last query.
    const int seen = a.causal ? min(a.keys, first_query + QUERIES) : a.keys;

    const auto copy_queries = [&](int pass) {
        copy_tile<T, QUERIES, WIDTH>(q_tile, q + pass * WIDTH, stride, a.queries - first_query,
                                     a.size - pass * WIDTH);
    };
    const auto copy_keys = [&](int first_key, int pass) {
        copy_tile<T, KEYS, WIDTH>(k_tile, k + first_key * stride + pass * WIDTH, stride,
                                  a.keys - first_key, a.size - pass * WIDTH);
    };

    // A lane has two neighbouring columns of two rows, lane / 4 and 8 below, of every 8 columns.
    float sums[WIDTH / 8][4] = {};
    float largest[2] = {NOTHING, NOTHING};
    float total[2] = {0.0f, 0.0f};

    copy_queries(0);
    copy_keys(0, 0);
    end_group();
    for (int first_key = 0; first_key < seen; first_key += KEYS) {
        copy_tile<T, KEYS, WIDTH>(v_tile, v + first_key * stride, stride, a.keys - first_key,
                                  a.size - part);
        end_group();

        float scores[KEYS / 8][4] = {};
        for (int pass = 0; pass < passes; ++pass) {
            // The values may still be on their way while the first pass is computed.
            if (pass == 0)
                wait_for_groups<1>();
            else
                wait_for_groups<0>();
            wait_for_block();
#pragma unroll
            for (int depth = 0; depth < WIDTH; depth += 16) {
                unsigned left[4];
                load_matrices(left, q_tile + (first_of_warp + lane % 16) * PITCH<WIDTH> + depth +
                                        lane / 16 * 8);
#pragma unroll
                for (int key = 0; key < KEYS; key += 16) {
                    unsigned right[4];
                    load_matrices(right, k_tile + (key + lane % 8 + lane / 16 * 8) * PITCH<WIDTH> +
                                             depth + lane / 8 % 2 * 8);
                    multiply_add(T{}, scores[key / 8], left, right[0], right[1]);
                    multiply_add(T{}, scores[key / 8 + 1], left, right[2], right[3]);
                }
            }
            wait_for_block();
            if (pass + 1 < passes) {
                copy_queries(pass + 1);
                copy_keys(first_key, pass + 1);
            } else if (first_key + KEYS < seen) {
                if (passes > 1)
                    copy_queries(0);
                copy_keys(first_key + KEYS, 0);
            }
            // Also where nothing was begun, so that the groups can be counted.
            end_group();
        }

        // The rows' largest scores so far, and what was summed with the largest before.
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int query = first_query + first_of_warp + lane / 4 + half * 8;
            const int limit = a.causal ? min(a.keys, query + 1) : a.keys;
            float most = largest[half];
#pragma unroll
            for (int tile = 0; tile < KEYS / 8; ++tile) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    float &score = scores[tile][half * 2 + side];
                    const int key = first_key + tile * 8 + lane % 4 * 2 + side;
                    score = key < limit ? score * a.scale : NOTHING;
                    most = fmaxf(most, score);
                }
            }
            most = fmaxf(most, of_lane(most, 1));
            most = fmaxf(most, of_lane(most, 2));
            // Where all is hidden yet, nothing may be subtracted from minus infinity.
            const float base = most == NOTHING ? 0.0f : most;
            factor[half] = power_of_two(largest[half] - base);
            largest[half] = most;
            float more = 0.0f;
#pragma unroll
            for (int tile = 0; tile < KEYS / 8; ++tile) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    float &score = scores[tile][half * 2 + side];
                    score = power_of_two(score - base);
                    more += score;
                }
            }
            total[half] = total[half] * factor[half] + more;
        }
#pragma unroll
        for (int tile = 0; tile < WIDTH / 8; ++tile) {
#pragma unroll
            for (int each = 0; each < 4; ++each)
                sums[tile][each] *= factor[each / 2];
        }

        // The keys of the next tile may still be on their way.
        wait_for_groups<1>();
        wait_for_block();
#pragma unroll
        for (int key = 0; key < KEYS; key += 16) {
            const float(&even)[4] = scores[key / 8];
            const float(&odd)[4] = scores[key / 8 + 1];
            const unsigned left[4] = {rounded(T{}, even[0], even[1]), rounded(T{}, even[2], even[3]),
                                      rounded(T{}, odd[0], odd[1]), rounded(T{}, odd[2], odd[3])};
#pragma unroll
            for (int column = 0; column < WIDTH; column += 16) {
                unsigned right[4];
                load_matrices_transposed(right, v_tile + (key + lane % 16) * PITCH<WIDTH> + column +
                                                    lane / 16 * 8);
                multiply_add(T{}, sums[column / 8], left, right[0], right[1]);
                multiply_add(T{}, sums[column / 8 + 1], left, right[2], right[3]);
            }
        }
        wait_for_block();
    }

    T *out = static_cast<T *>(a.out) + of_queries + part;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        total[half] += of_lane(total[half], 1);
        total[half] += of_lane(total[half], 2);
        const int query = first_query + first_of_warp + lane / 4 + half * 8;
        if (query < a.queries) {
            const float share = 1.0f / total[half];
#pragma unroll
            for (int tile = 0; tile < WIDTH / 8; ++tile) {
                const int column = tile * 8 + lane % 4 * 2;
                if (column < a.size - part)
                    *reinterpret_cast<unsigned *>(out + query * stride + column) =
                        rounded(T{}, sums[tile][half * 2] * share, sums[tile][half * 2 + 1] * share);
            }
        }
    }
}

// The names that `cuda.rs` loads. Fewer keys a tile where rows are wide: shared memory ends at 48 KiB
// where a kernel does not ask for more. With so many blocks on a multiprocessor at least, sums stay in
// registers on every architecture up to 12.0 (`ptxas -v`).
#define KERNEL(NAME, T, WIDTH, KEYS, BLOCKS)                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                      \
        NAME(const void *q, const void *k, const void *v, void *out, int queries, int keys, int heads, \
             int size, float scale, int causal) {                                                      \
        attend<T, WIDTH, KEYS>({q, k, v, out, queries, keys, heads, size, scale, causal});             \
    }
#define KERNELS(WIDTH, KEYS, BLOCKS)                                                                   \
    KERNEL(attention_f16_##WIDTH, F16, WIDTH, KEYS, BLOCKS)                                            \
    KERNEL(attention_bf16_##WIDTH, BF16, WIDTH, KEYS, BLOCKS)

KERNELS(32, 64, 3)
KERNELS(48, 64, 3)
KERNELS(64, 64, 3)
KERNELS(80, 64, 3)
KERNELS(128, 32, 2)
KERNELS(160, 32, 2)
