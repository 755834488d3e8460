// The instructions of the GPU that the kernels use, each a function: what they do beyond this file is
// plain C++, which `emulated.hpp` runs on a CPU. No header of CUDA's is needed.
//
// Source of the fragments' layouts: "Parallel Thread Execution ISA", sections on `mma.m16n8k16`,
// `ldmatrix` and `cp.async`. All of them need compute capability 8.0.
#pragma once

// 16 bits of a number; which type it is, a type parameter says.
struct F16 {
    unsigned short bits;
};
struct BF16 {
    unsigned short bits;
};

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Begins to copy 16 bytes to shared memory, or zeros where `there` is false; `from` must be an address
// that can be read in either case.
__device__ __forceinline__ void copy_16_bytes(void *to, const void *from, bool there) {
    const int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(bytes)
                 : "memory");
}

// What was begun since the last call is a group.
__device__ __forceinline__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's groups, but for the `PENDING` that were ended last.
template <int PENDING> __device__ __forceinline__ void wait_for_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Waits for all threads of the block.
__device__ __forceinline__ void wait_for_block() { __syncthreads(); }

// Four 8x8 matrices of 16-bit numbers: lanes 8 i to 8 i + 7 name the rows of matrix i. A lane gets two
// neighbours of row lane / 4 of each, columns 2 (lane % 4) and the next.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of the matrices transposed.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sums[16x8] += left[16x16] right[16x8], over the fragments of a warp.
__device__ __forceinline__ void multiply_add(F16, float (&sums)[4], const unsigned (&left)[4],
                                             unsigned right_0, unsigned right_1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
__device__ __forceinline__ void multiply_add(BF16, float (&sums)[4], const unsigned (&left)[4],
                                             unsigned right_0, unsigned right_1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

// Two numbers rounded to 16 bits, `low` in the lower half.
__device__ __forceinline__ unsigned rounded(F16, float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
__device__ __forceinline__ unsigned rounded(BF16, float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// The value that the lane whose number differs by the bits of `mask` has.
__device__ __forceinline__ float of_lane(float value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

// 2^x, with a relative error of 2^-22.
__device__ __forceinline__ float power_of_two(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}
