// A GPU's block on a CPU: every thread of it is a thread, and the functions of `instructions.cuh` do what
// NVIDIA's manual says that the instructions do. What that is for: results without a GPU, and, by the
// compiler's sanitizers, reads beyond an array's end (address) and shared memory that is read while
// another thread writes it (thread).
//
// A copy that was begun happens when its group is waited for, and no sooner: a kernel that does not wait
// reads what was there before. With NEGKIT_COPY_AT_ONCE it happens when it is begun: a kernel that begins
// it while another thread still reads what was there has a race. On a GPU it may be either.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <pthread.h>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after another, so that one copy serves them.
#define __shared__ static

using std::min;

struct F16 {
    unsigned short bits;
};
struct BF16 {
    unsigned short bits;
};

inline unsigned short narrowed(F16, float value) {
    const _Float16 narrow = static_cast<_Float16>(value);
    unsigned short bits;
    std::memcpy(&bits, &narrow, 2);
    return bits;
}
inline float widened(F16, unsigned short bits) {
    _Float16 narrow;
    std::memcpy(&narrow, &bits, 2);
    return static_cast<float>(narrow);
}
inline unsigned short narrowed(BF16, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value)
        return static_cast<unsigned short>(bits >> 16 | 0x40);
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float widened(BF16, unsigned short bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

struct Index {
    unsigned x, y, z;
};
inline thread_local Index threadIdx, blockIdx;

constexpr int LANES = 32;

// What the lanes of a warp show each other. Two barriers around every look: nobody writes the next value
// before all have read this one.
struct Warp {
    pthread_barrier_t barrier;
    const void *rows[LANES];
    unsigned left[LANES][4];
    unsigned right[LANES][2];
    float values[LANES];
};

struct Block {
    pthread_barrier_t barrier;
    std::vector<Warp> warps;
};
inline thread_local Block *the_block;

inline Warp &warp() { return the_block->warps[threadIdx.x / LANES]; }
inline int lane() { return static_cast<int>(threadIdx.x % LANES); }
inline void wait_for_warp() { pthread_barrier_wait(&warp().barrier); }
inline void wait_for_block() { pthread_barrier_wait(&the_block->barrier); }

inline void run_block(Index block, int threads, const std::function<void()> &kernel) {
    Block state;
    pthread_barrier_init(&state.barrier, nullptr, static_cast<unsigned>(threads));
    state.warps.resize(static_cast<size_t>(threads / LANES));
    for (Warp &each : state.warps)
        pthread_barrier_init(&each.barrier, nullptr, LANES);
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread)
        running.emplace_back([&, thread] {
            threadIdx = {static_cast<unsigned>(thread), 0, 0};
            blockIdx = block;
            the_block = &state;
            kernel();
        });
    for (std::thread &thread : running)
        thread.join();
    for (Warp &each : state.warps)
        pthread_barrier_destroy(&each.barrier);
    pthread_barrier_destroy(&state.barrier);
}

struct Copy {
    void *to;
    const void *from;
    bool there;
};
inline thread_local std::vector<Copy> begun;
inline thread_local std::deque<std::vector<Copy>> groups;

inline void must_be_aligned(const void *pointer, uintptr_t bytes, const char *what) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) {
        std::fprintf(stderr, "%s at an address that %lu does not divide\n", what,
                     static_cast<unsigned long>(bytes));
        std::abort();
    }
}

inline void carry_out(const std::vector<Copy> &copies) {
    for (const Copy &copy : copies) {
        if (copy.there)
            std::memcpy(copy.to, copy.from, 16);
        else
            std::memset(copy.to, 0, 16);
    }
}

inline void copy_16_bytes(void *to, const void *from, bool there) {
    must_be_aligned(to, 16, "a copy to shared memory");
    must_be_aligned(from, 16, "a copy from global memory");
    begun.push_back({to, from, there});
#ifdef NEGKIT_COPY_AT_ONCE
    carry_out(begun);
    begun.clear();
#endif
}
inline void end_group() {
    groups.push_back(begun);
    begun.clear();
}
template <int PENDING> inline void wait_for_groups() {
    while (groups.size() > PENDING) {
        carry_out(groups.front());
        groups.pop_front();
    }
}

// Half words 2 i and 2 i + 1 of `row`.
inline unsigned pair_of(const void *row, int i) {
    unsigned pair;
    std::memcpy(&pair, static_cast<const char *>(row) + 4 * i, 4);
    return pair;
}

inline void load_matrices(unsigned (&to)[4], const void *row) {
    must_be_aligned(row, 16, "a row of ldmatrix");
    warp().rows[lane()] = row;
    wait_for_warp();
    for (int matrix = 0; matrix < 4; ++matrix)
        to[matrix] = pair_of(warp().rows[matrix * 8 + lane() / 4], lane() % 4);
    wait_for_warp();
}
inline void load_matrices_transposed(unsigned (&to)[4], const void *row) {
    must_be_aligned(row, 16, "a row of ldmatrix");
    warp().rows[lane()] = row;
    wait_for_warp();
    for (int matrix = 0; matrix < 4; ++matrix) {
        unsigned pair = 0;
        for (int side = 0; side < 2; ++side) {
            unsigned short half;
            const void *from = warp().rows[matrix * 8 + lane() % 4 * 2 + side];
            std::memcpy(&half, static_cast<const char *>(from) + 2 * (lane() / 4), 2);
            pair |= static_cast<unsigned>(half) << 16 * side;
        }
        to[matrix] = pair;
    }
    wait_for_warp();
}

// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type". Of the left factor, a lane's
// register i holds row lane / 4 + 8 (i % 2) and columns 2 (lane % 4) + 8 (i / 2) and the next; of the
// right one, column lane / 4 and rows 2 (lane % 4) + 8 i and the next; of the sums, value i is in row
// lane / 4 + 8 (i / 2) and column 2 (lane % 4) + i % 2.
template <typename T>
inline void multiply_add(T type, float (&sums)[4], const unsigned (&left)[4], unsigned right_0,
                         unsigned right_1) {
    Warp &shared = warp();
    std::copy(left, left + 4, shared.left[lane()]);
    shared.right[lane()][0] = right_0;
    shared.right[lane()][1] = right_1;
    wait_for_warp();
    const auto half = [&](unsigned pair, int side) {
        return widened(type, static_cast<unsigned short>(pair >> 16 * side));
    };
    for (int value = 0; value < 4; ++value) {
        const int row = lane() / 4 + 8 * (value / 2);
        const int column = lane() % 4 * 2 + value % 2;
        float sum = 0.0f;
        for (int depth = 0; depth < 16; ++depth) {
            const int pair = depth % 8 / 2;
            const unsigned a = shared.left[row % 8 * 4 + pair][row / 8 + 2 * (depth / 8)];
            const unsigned b = shared.right[column * 4 + pair][depth / 8];
            sum += half(a, depth % 2) * half(b, depth % 2);
        }
        sums[value] += sum;
    }
    wait_for_warp();
}

template <typename T> inline unsigned rounded(T type, float low, float high) {
    return narrowed(type, low) | static_cast<unsigned>(narrowed(type, high)) << 16;
}

inline float of_lane(float value, int mask) {
    warp().values[lane()] = value;
    wait_for_warp();
    const float other = warp().values[lane() ^ mask];
    wait_for_warp();
    return other;
}

inline float power_of_two(float x) { return std::exp2(x); }
