// Fibres, launches and device memory of the emulation; device.h has the instructions.

#include "device.h"

#include "../abi.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unordered_map>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {

thread_local Fibre* current;
thread_local Index block;
thread_local Index block_size;
thread_local unsigned char* arena;

// ---------------------------------------------------------------------------------------------------------------------
// Switching stacks
// ---------------------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
// Saves the callee-saved registers on the present stack and takes those of the other: an order of magnitude faster than
// swapcontext, which asks the kernel to swap signal masks.
extern "C" void eqprop_switch_stack(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl eqprop_switch_stack
.type eqprop_switch_stack, @function
eqprop_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size eqprop_switch_stack, .-eqprop_switch_stack
)");
#endif

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr size_t CACHE_COLOUR_BYTES = 640;
constexpr unsigned MAX_THREADS = 256;
constexpr size_t GUARD_BYTES = 4096;
constexpr size_t MAX_SHARED_BYTES = 227 << 10; // the largest of any architecture that we compile for
constexpr size_t ARENA_BYTES = MAX_SHARED_BYTES + GUARD_BYTES;
constexpr unsigned char POISON = 0xff; // a NaN in fp16, fp32 and fp64

enum State { RUNNABLE, WAITS_FOR_WARP, WAITS_FOR_BLOCK, FINISHED };


// What one host thread needs to run blocks.
struct Worker {
    unsigned char* stacks;
    Fibre fibres[MAX_THREADS];
    unsigned threads = 0;
    unsigned unfinished = 0;
    unsigned at_barrier = 0;
    unsigned in_warp[MAX_THREADS / LANES];
    void* lanes[MAX_THREADS / LANES][LANES];
    Fibre main;
    Kernel kernel = nullptr;
    const void* args = nullptr;
    bool stuck = false;
    bool misaligned = false; // a copy's source or destination
#if !defined(__x86_64__)
    ucontext_t contexts[MAX_THREADS];
    ucontext_t main_context;
#endif

    Worker() {
        stacks = static_cast<unsigned char*>(mmap(nullptr, STACK_BYTES * MAX_THREADS, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (stacks == MAP_FAILED) abort();
        arena_memory = static_cast<unsigned char*>(aligned_alloc(1024, ARENA_BYTES));
    }
    ~Worker() {
        munmap(stacks, STACK_BYTES * MAX_THREADS);
        free(arena_memory);
    }
    unsigned char* arena_memory;
};

thread_local Worker* worker;

void switch_to(Fibre* next) {
    Fibre* mine = current;
    current = next;
#if defined(__x86_64__)
    eqprop_switch_stack(&mine->stack_pointer, next->stack_pointer);
#else
    auto context = [](Fibre* f) { return f == &worker->main ? &worker->main_context : &worker->contexts[f->thread]; };
    swapcontext(context(mine), context(next));
#endif
}

// The next runnable fibre, those of the same warp first; the main stack when there is none.
void leave() {
    Worker& w = *worker;
    const unsigned mine = current->thread, warp = mine / LANES;
    const unsigned first = warp * LANES, last = std::min(first + LANES, w.threads);
    for (unsigned t = mine + 1; t < last; ++t)
        if (w.fibres[t].state == RUNNABLE) return switch_to(&w.fibres[t]);
    for (unsigned t = first; t < mine; ++t)
        if (w.fibres[t].state == RUNNABLE) return switch_to(&w.fibres[t]);
    for (unsigned t = last; t < w.threads; ++t)
        if (w.fibres[t].state == RUNNABLE) return switch_to(&w.fibres[t]);
    for (unsigned t = 0; t < first; ++t)
        if (w.fibres[t].state == RUNNABLE) return switch_to(&w.fibres[t]);
    w.stuck = w.unfinished != 0;
    switch_to(&w.main);
}

void release_barrier_if_complete(Worker& w) {
    if (w.at_barrier == 0 || w.at_barrier != w.unfinished) return;
    for (unsigned t = 0; t < w.threads; ++t)
        if (w.fibres[t].state == WAITS_FOR_BLOCK) w.fibres[t].state = RUNNABLE;
    w.at_barrier = 0;
}

void fibre_main() {
    worker->kernel(worker->args);
    current->state = FINISHED;
    --worker->unfinished;
    // A thread that has left counts as arrived, as on the hardware.
    release_barrier_if_complete(*worker);
    leave();
    abort(); // a finished fibre is never resumed
}

void prepare(Worker& w, unsigned t) {
    Fibre& f = w.fibres[t];
    f.thread = t;
    f.state = RUNNABLE;
    f.committed = 0;
    f.pending = 0;
    // Tops at different places of a page: at the same one, all fibres would compete for the same lines of the cache.
    unsigned char* top = w.stacks + STACK_BYTES * (t + 1) - t % LANES * CACHE_COLOUR_BYTES;
#if defined(__x86_64__)
    // As if fibre_main had been called: six registers and the return address below an aligned frame.
    void** sp = reinterpret_cast<void**>(top) - 2;
    *sp = reinterpret_cast<void*>(fibre_main);
    sp -= 6;
    for (int i = 0; i < 6; ++i) sp[i] = nullptr;
    f.stack_pointer = sp;
#else
    getcontext(&w.contexts[t]);
    w.contexts[t].uc_stack.ss_sp = w.stacks + STACK_BYTES * t;
    w.contexts[t].uc_stack.ss_size = top - (w.stacks + STACK_BYTES * t);
    w.contexts[t].uc_link = nullptr;
    makecontext(&w.contexts[t], fibre_main, 0);
#endif
}

bool intact(const unsigned char* zone) {
    return std::all_of(zone, zone + GUARD_BYTES, [](unsigned char byte) { return byte == POISON; });
}

// Runs one block; see eqprop_emulation_launch for the result.
int run_block(Worker& w, unsigned index, size_t shared) {
    block = {index};
    arena = w.arena_memory;
    memset(arena, POISON, shared + GUARD_BYTES);
    for (unsigned t = 0; t < w.threads; ++t) prepare(w, t);
    w.unfinished = w.threads;
    w.at_barrier = 0;
    memset(w.in_warp, 0, sizeof w.in_warp);
    w.stuck = false;
    w.misaligned = false;
    current = &w.main;
    // Odd blocks start from the last thread, so that no kernel can rely on the order.
    switch_to(&w.fibres[index % 2 ? w.threads - 1 : 0]);
    return w.stuck ? 3 : w.misaligned ? 6 : intact(arena + shared) ? 0 : 5;
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory
// ---------------------------------------------------------------------------------------------------------------------

struct Memory {
    std::mutex mutex;
    std::unordered_map<uint64_t, size_t> allocations;
};

Memory& memory() {
    static Memory m;
    return m;
}

Registration*& kernels() {
    static Registration* head = nullptr;
    return head;
}

std::atomic<int> active_mutation{0};

// Host threads that share a launch's blocks with the caller. One launch at a time has them; others run alone.
class Helpers {
public:
    Helpers() {
        const unsigned count = std::max(1u, std::thread::hardware_concurrency()) - 1;
        for (unsigned i = 0; i < count; ++i) threads_.emplace_back([this] { serve(); });
    }
    void run(const std::function<void()>& work) {
        std::unique_lock<std::mutex> mine(busy_, std::try_to_lock);
        if (!mine) return work();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            ++round_;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        work_ = nullptr; // nothing is left for a helper that has not started yet
        done_.wait(lock, [this] { return at_work_ == 0; });
    }

private:
    void serve() {
        unsigned seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return round_ != seen; });
            seen = round_;
            const std::function<void()>* work = work_;
            if (!work) continue;
            ++at_work_;
            lock.unlock();
            (*work)();
            lock.lock();
            if (--at_work_ == 0) done_.notify_one();
        }
    }

    std::vector<std::thread> threads_;
    std::mutex busy_, mutex_;
    std::condition_variable wake_, done_;
    const std::function<void()>* work_ = nullptr;
    unsigned round_ = 0, at_work_ = 0;
};

Helpers& helpers() {
    static Helpers* pool = new Helpers; // never destroyed: its threads end with the process
    return *pool;
}

} // namespace

Registration::Registration(const char* name, Kernel kernel, unsigned threads, size_t args_bytes)
    : name(name), kernel(kernel), threads(threads), args_bytes(args_bytes), next(kernels()) {
    kernels() = this;
}

const Registration* find_kernel(const char* name) {
    const Registration* found = kernels();
    while (found && strcmp(found->name, name) != 0) found = found->next;
    return found;
}

int mutation() { return active_mutation.load(std::memory_order_relaxed); }

void barrier() {
    Worker& w = *worker;
    ++w.at_barrier;
    current->state = WAITS_FOR_BLOCK;
    release_barrier_if_complete(w);
    if (current->state != RUNNABLE) leave();
}

void meet(void* mine, void (*act)(void** lanes)) {
    Worker& w = *worker;
    const unsigned warp = current->thread / LANES;
    w.lanes[warp][current->thread % LANES] = mine;
    if (++w.in_warp[warp] == LANES) {
        w.in_warp[warp] = 0;
        act(w.lanes[warp]);
        for (unsigned lane = 0; lane < LANES; ++lane) w.fibres[warp * LANES + lane].state = RUNNABLE;
        return;
    }
    current->state = WAITS_FOR_WARP;
    leave();
}

namespace {
const float* make_fp16_values() {
    float* values = new float[1 << 16];
    for (unsigned bits = 0; bits < (1u << 16); ++bits) {
        const unsigned exponent = (bits >> 10) & 31, fraction = bits & 1023;
        float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? ldexpf(static_cast<float>(1024 + fraction), static_cast<int>(exponent) - 25)
                                         : ldexpf(static_cast<float>(fraction), -24);
        values[bits] = bits & 0x8000 ? -magnitude : magnitude;
    }
    return values;
}
} // namespace
const float* const fp16_values = make_fp16_values();

// Fragment layouts of mma.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"): lane = 4 group + pair;
// a: rows group, group + 8, columns 2 pair + {0,1}, + 8; b: rows 2 pair + {0,1}, + 8, column group; c as a's rows,
// columns 2 pair + {0,1}.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
static void
multiply(float* __restrict c, const float* __restrict a, const float* __restrict b, int rows, int columns) {
    for (int r = 0; r < rows; r += 4)
        for (int n = 0; n < columns; n += 8) {
            float sum[4][8];
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 8; ++j) sum[i][j] = c[(r + i) * columns + n + j];
            for (int k = 0; k < 16; ++k)
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < 8; ++j) sum[i][j] += a[(r + i) * 16 + k] * b[k * columns + n + j];
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 8; ++j) c[(r + i) * columns + n + j] = sum[i][j];
        }
}

void mma_act(void** lanes, int m, int n) {
    constexpr int MAX_ROWS = 128, MAX_COLUMNS = 128;
    // Too large for a fibre's stack.
    static thread_local float a[MAX_ROWS * 16], b[16 * MAX_COLUMNS], c[MAX_ROWS * MAX_COLUMNS];
    const int rows = 16 * m, columns = 8 * n;
    for (int lane = 0; lane < LANES; ++lane) {
        const auto& mine = *static_cast<const MmaLane*>(lanes[lane]);
        const int group = lane / 4, pair = 2 * (lane % 4);
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < 4; ++j) {
                const uint32_t two = mine.a[4 * i + j];
                float* to = a + (16 * i + group + 8 * (j % 2)) * 16 + pair + 8 * (j / 2);
                to[0] = fp16_values[two & 0xffff];
                to[1] = fp16_values[two >> 16];
            }
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < 2; ++j) {
                const uint32_t two = mine.b[2 * i + j];
                b[(pair + 8 * j) * columns + 8 * i + group] = fp16_values[two & 0xffff];
                b[(pair + 8 * j + 1) * columns + 8 * i + group] = fp16_values[two >> 16];
            }
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < n; ++j)
                for (int half = 0; half < 2; ++half)
                    memcpy(c + (16 * i + group + 8 * half) * columns + 8 * j + pair,
                           mine.c + (i * n + j) * 4 + 2 * half, 2 * sizeof(float));
    }
    multiply(c, a, b, rows, columns);
    for (int lane = 0; lane < LANES; ++lane) {
        const auto& mine = *static_cast<const MmaLane*>(lanes[lane]);
        const int group = lane / 4, pair = 2 * (lane % 4);
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < n; ++j)
                for (int half = 0; half < 2; ++half)
                    memcpy(mine.c + (i * n + j) * 4 + 2 * half,
                           c + (16 * i + group + 8 * half) * columns + 8 * j + pair, 2 * sizeof(float));
    }
}

} // namespace emulation

using namespace emulation;

void cp_async_16(SharedAddress address, const void* global, bool present) {
    Fibre& f = *current;
    // A GPU stops with "misaligned address" (716), and nothing exempts a copy that reads nothing.
    if ((address | reinterpret_cast<uintptr_t>(global)) % 16 != 0) {
        worker->misaligned = true;
        return;
    }
    // A kernel that never waits loses its oldest copies: their destination stays poisoned.
    if (f.pending == MAX_PENDING_COPIES) memmove(f.copies, f.copies + 1, --f.pending * sizeof(PendingCopy));
    void* shared = reinterpret_cast<void*>(address);
    memset(shared, POISON, 16);
    f.copies[f.pending++] = {shared, global, present, f.committed};
}

void cp_async_commit() { ++current->committed; }

void cp_async_wait_for(unsigned pending_groups) {
    Fibre& f = *current;
    int kept = 0;
    for (int i = 0; i < f.pending; ++i) {
        const PendingCopy copy = f.copies[i];
        if (copy.group + pending_groups >= f.committed) {
            f.copies[kept++] = copy;
        } else if (copy.present) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    f.pending = kept;
}

// ---------------------------------------------------------------------------------------------------------------------
// The driver, as Rust sees it (src/cuda/machine/emulated.rs)
// ---------------------------------------------------------------------------------------------------------------------

extern "C" {

// Memory between two guard zones; 0 when there is none. Poisoned: nothing is zero before somebody writes it.
uint64_t eqprop_emulation_alloc(size_t bytes) {
    const size_t rounded = (bytes + 255) / 256 * 256;
    auto* base = static_cast<unsigned char*>(aligned_alloc(256, rounded + 2 * GUARD_BYTES));
    if (!base) return 0;
    memset(base, POISON, rounded + 2 * GUARD_BYTES);
    const uint64_t address = reinterpret_cast<uint64_t>(base + GUARD_BYTES);
    std::lock_guard<std::mutex> lock(memory().mutex);
    memory().allocations[address] = bytes;
    return address;
}

void eqprop_emulation_free(uint64_t address) {
    std::lock_guard<std::mutex> lock(memory().mutex);
    memory().allocations.erase(address);
    free(reinterpret_cast<unsigned char*>(address) - GUARD_BYTES);
}

// 1 when something was written next to the allocation.
int eqprop_emulation_overrun(uint64_t address) {
    std::lock_guard<std::mutex> lock(memory().mutex);
    const auto found = memory().allocations.find(address);
    if (found == memory().allocations.end()) return 1;
    const auto* begin = reinterpret_cast<const unsigned char*>(address);
    const size_t bytes = found->second;
    const size_t rounded = (bytes + 255) / 256 * 256;
    const bool tail = std::all_of(begin + bytes, begin + rounded, [](unsigned char byte) { return byte == POISON; });
    return !(intact(begin - GUARD_BYTES) && tail && intact(begin + rounded));
}

void eqprop_emulation_set_mutation(int number) { active_mutation = number; }

// 0: done; 1: no such kernel; 2: the block size is not the kernel's; 3: threads wait for one another for ever; 4: too much
// shared memory; 5: shared memory was written past its end; 6: cp.async from or to an address that is no multiple of 16.
void eqprop_emulation_keep_kernels();

int eqprop_emulation_launch(const char* name, unsigned grid, unsigned threads, size_t shared, const void* args) {
    eqprop_emulation_keep_kernels();
    const Registration* found = find_kernel(name);
    if (!found) return 1;
    if (found->threads != threads || threads > MAX_THREADS || threads % LANES != 0) return 2;
    if (shared > MAX_SHARED_BYTES) return 4;
    std::atomic<unsigned> next{0};
    std::atomic<int> result{0};
    const std::function<void()> work = [&] {
        // Kept between launches: a worker owns some megabytes of stacks.
        static thread_local Worker mine;
        worker = &mine;
        mine.threads = threads;
        mine.kernel = found->kernel;
        mine.args = args;
        block_size = {threads};
        for (unsigned index; (index = next.fetch_add(1)) < grid;)
            if (const int failure = run_block(mine, index, shared)) result = failure;
    };
    if (grid > 1) {
        helpers().run(work);
    } else {
        work();
    }
    return result;
}

// Sizes of the shared structs, for the test that compares them with the Rust side.
size_t eqprop_emulation_size_of(const char* name) {
#define SIZE(T) \
    if (strcmp(name, #T) == 0) return sizeof(T)
    SIZE(EqSource);
    SIZE(EqRun);
    SIZE(EqTap);
    SIZE(EqTarget);
    SIZE(EqTile);
    SIZE(EqPhase);
    SIZE(EqChange);
    SIZE(EqRelaxArgs);
    SIZE(EqHopperTarget);
    SIZE(EqHopperTap);
    SIZE(EqHopperArgs);
    SIZE(EqHopperGradEdge);
    SIZE(EqHopperGradTap);
    SIZE(EqHopperGradArgs);
    SIZE(EqNudgeArgs);
    SIZE(EqAdvanceArgs);
    SIZE(EqLoopArgs);
    SIZE(EqPoolArgs);
    SIZE(EqStateArgs);
    SIZE(EqMaskArgs);
    SIZE(EqStatisticsArgs);
    SIZE(EqEnergyLayer);
    SIZE(EqOutcomeArgs);
    SIZE(EqGradEdge);
    SIZE(EqGradTile);
    SIZE(EqGradArgs);
    SIZE(EqBiasTile);
    SIZE(EqBiasArgs);
    SIZE(EqGatherBlock);
    SIZE(EqGatherArgs);
    SIZE(EqNormArgs);
    SIZE(EqOptimizerArgs);
    SIZE(EqPackArgs);
    SIZE(EqBatchNorm);
    SIZE(EqBatchNormArgs);
    SIZE(EqLossArgs);
#undef SIZE
    return 0;
}
}
