// The part of the CUDA driver's interface that src/cuda/machine/driver.rs uses, over the emulation: a libcuda.so for machines
// without a GPU, so that the host side of a GPU run (streams, graphs, copies, errors) is tested as it will run. It is
// stricter than a driver. Work in a stream is put off until somebody has to wait for it, so a result that is read, or
// memory that is reused, too early is seen; what a driver forbids while a stream is recorded is an error here too; and a
// call can be made to fail:
//
//   EQPROP_DRIVER_FAILS=cuLaunchKernel:40:719   the 40th and later calls of cuLaunchKernel return CUDA error 719
//   EQPROP_DRIVER_FAILS=cuLaunchKernel:capture:1  those while a stream is recorded
//   EQPROP_DRIVER_FAILS=cuLaunchKernel:once:1     the first one alone; capture-once: the first one while a stream is recorded
//   EQPROP_DRIVER_MEMORY=1000000                bytes of device memory
//   EQPROP_DRIVER_MULTIPROCESSORS=20            132 otherwise
//   EQPROP_DRIVER_DEVICES=2                     one GPU otherwise
//   EQPROP_DRIVER_VERSION=12030                 of CUDA; 13000 otherwise
//   EQPROP_DRIVER_MUTATION=31                   a deliberate defect of kernels/defects.cuh
//   EQPROP_DRIVER_LOG=FILE                      one line per call that a test may count, when the library is unloaded
#include "device.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

extern "C" {
uint64_t eqprop_emulation_alloc(size_t bytes);
void eqprop_emulation_free(uint64_t address);
int eqprop_emulation_overrun(uint64_t address);
int eqprop_emulation_launch(const char* name, unsigned grid, unsigned threads, size_t shared, const void* args);
void eqprop_emulation_set_mutation(int number);
}

namespace {

using Result = int;
using Address = unsigned long long;
using Work = std::function<Result()>;

// Codes of CUresult.
constexpr Result SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
                 LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900;
// Shared memory of a multiprocessor: what may be set aside when nothing is asked for, and at most. The system takes some of
// each block's.
constexpr unsigned DEFAULT_CARVEOUT = 132 << 10, LARGEST_CARVEOUT = 228 << 10, SYSTEM_SHARED_BYTES = 1 << 10;
constexpr unsigned DEFAULT_SHARED_BYTES = 48 << 10, LARGEST_SHARED_BYTES = 227 << 10;

struct Function {
    const emulation::Registration* kernel;
    unsigned largest_shared = DEFAULT_SHARED_BYTES;
    unsigned carveout = DEFAULT_CARVEOUT;
};

// A graph's nodes, one after the other; what an executable graph is made of, too, which has a loop's condition and body in common with it.
struct Graph {
    std::vector<Work> work;
    std::vector<std::shared_ptr<uint32_t>> conditions;
    std::vector<std::shared_ptr<Graph>> bodies;
};

struct Stream {
    std::vector<Work> pending;
    Graph* recording = nullptr;
    bool into_body = false; // the graph that is recorded is a loop's
};

// CUgraphNodeParams of a conditional node: the beginning of 256 bytes.
struct ConditionalNode {
    int type, reserved[3];
    uint64_t handle;
    int kind;
    unsigned size;
    void** bodies; // written by the driver
    void* context;
};
constexpr int CONDITIONAL = 13, WHILE = 1;
constexpr unsigned MOST_TURNS = 1000; // of a loop, which is said never to end after them

std::mutex lock;
std::map<std::string, unsigned> calls;
std::map<Address, size_t> allocations;
std::map<std::string, Function> functions;
std::vector<Stream*> streams;
std::map<void*, size_t> pinned;
size_t in_use = 0;
int graphs = 0, executables = 0, contexts = 0, modules = 0; // that are not released
unsigned lonely = 0; // launches whose block leaves no room for a second one
unsigned executed = 0, turns = 0; // kernels that ran; bodies of loops
Result lost = SUCCESS; // a kernel that failed takes the context with it, as on a GPU
thread_local void* context = nullptr;
int the_context;

size_t capacity() {
    const char* set = getenv("EQPROP_DRIVER_MEMORY");
    return set ? strtoull(set, nullptr, 10) : size_t{64} << 30;
}

int device_count() {
    const char* set = getenv("EQPROP_DRIVER_DEVICES");
    return set ? atoi(set) : 1;
}

struct Log {
    ~Log() {
        const char* path = getenv("EQPROP_DRIVER_LOG");
        FILE* file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        for (const auto& [name, count] : calls) fprintf(file, "%s %u\n", name.c_str(), count);
        fprintf(file, "leaked %zu\n", allocations.size() + pinned.size() + graphs + executables + contexts + modules + streams.size());
        fprintf(file, "lonely %u\nexecuted %u\nturns %u\n", lonely, executed, turns);
        fclose(file);
    }
} log_at_exit;

// Counts a call, and makes it fail if EQPROP_DRIVER_FAILS says so.
Result begin(const char* name, bool needs_context = true) {
    const unsigned count = ++calls[name];
    if (needs_context && !context) return INVALID_CONTEXT;
    if (lost) return lost;
    const char* set = getenv("EQPROP_DRIVER_FAILS");
    if (!set) return SUCCESS;
    const std::string text = set;
    const size_t first = text.find(':'), second = text.find(':', first + 1);
    if (second == std::string::npos || text.substr(0, first) != name) return SUCCESS;
    const std::string when = text.substr(first + 1, second - first - 1);
    const bool capturing = std::any_of(streams.begin(), streams.end(), [](Stream* s) { return s->recording; });
    const bool of_captures = when == "capture" || when == "capture-once", once = when == "once" || when == "capture-once";
    static bool failed = false;
    if (once ? failed : when != "capture" && count < strtoul(when.c_str(), nullptr, 10)) return SUCCESS;
    if (of_captures && !capturing) return SUCCESS;
    failed = true;
    return atoi(text.c_str() + second + 1);
}

#define BEGIN(...)                                 \
    std::lock_guard<std::mutex> guard(lock);       \
    if (const Result failure = begin(__VA_ARGS__)) return failure

Result wait_for(Stream& stream) {
    if (stream.recording) return CAPTURE_UNSUPPORTED;
    std::vector<Work> work;
    work.swap(stream.pending);
    for (const Work& item : work)
        if (const Result failure = item()) return lost = failure;
    for (const auto& [address, bytes] : allocations)
        if (eqprop_emulation_overrun(address)) return lost = ILLEGAL_ADDRESS;
    return SUCCESS;
}

Result wait_for_all() {
    for (Stream* stream : streams)
        if (const Result failure = wait_for(*stream)) return failure;
    return SUCCESS;
}

Result submit(void* handle, Work work) {
    auto& stream = *static_cast<Stream*>(handle);
    (stream.recording ? stream.recording->work : stream.pending).push_back(std::move(work));
    return SUCCESS;
}

// Calls of CUDA 12.4, whose names an older driver does not have.
bool is_old() {
    const char* set = getenv("EQPROP_DRIVER_VERSION");
    return set && atoi(set) < 12040;
}

// Whether `bytes` from `address` on lie in one allocation.
bool inside(Address address, size_t bytes) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return false;
    --next;
    return address + bytes <= next->first + next->second;
}

} // namespace

extern "C" {

Result cuInit(unsigned) {
    BEGIN("cuInit", false);
    if (const char* mutation = getenv("EQPROP_DRIVER_MUTATION")) eqprop_emulation_set_mutation(atoi(mutation));
    return SUCCESS;
}
Result cuDriverGetVersion(int* version) {
    BEGIN("cuDriverGetVersion", false);
    const char* set = getenv("EQPROP_DRIVER_VERSION");
    *version = set ? atoi(set) : 13000;
    return SUCCESS;
}
Result cuDeviceGetCount(int* count) {
    BEGIN("cuDeviceGetCount", false);
    *count = device_count();
    return SUCCESS;
}
Result cuDeviceGet(int* device, int ordinal) {
    BEGIN("cuDeviceGet", false);
    *device = ordinal;
    return ordinal >= 0 && ordinal < device_count() ? SUCCESS : 101;
}
Result cuDeviceGetName(char* name, int length, int) {
    BEGIN("cuDeviceGetName", false);
    snprintf(name, length, "emulated driver");
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t* bytes, int) {
    BEGIN("cuDeviceTotalMem_v2", false);
    *bytes = capacity();
    return SUCCESS;
}
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    BEGIN("cuDeviceGetAttribute", false);
    switch (attribute) {
    case 16: { // multiprocessors
        const char* set = getenv("EQPROP_DRIVER_MULTIPROCESSORS");
        *value = set ? atoi(set) : 132;
        return SUCCESS;
    }
    case 75: *value = 9; return SUCCESS;   // compute capability
    case 76: *value = 0; return SUCCESS;
    case 81: *value = LARGEST_CARVEOUT; return SUCCESS;
    case 111: *value = SYSTEM_SHARED_BYTES; return SUCCESS;
    default: return INVALID_VALUE;
    }
}
Result cuDevicePrimaryCtxRetain(void** out, int) {
    BEGIN("cuDevicePrimaryCtxRetain", false);
    *out = &the_context;
    ++contexts;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int) {
    BEGIN("cuDevicePrimaryCtxRelease_v2", false);
    --contexts;
    return SUCCESS;
}
Result cuCtxSetCurrent(void* chosen) {
    BEGIN("cuCtxSetCurrent", false);
    context = chosen;
    return SUCCESS;
}
Result cuModuleLoadData(void** module, const void* image) {
    BEGIN("cuModuleLoadData");
    // A fat binary begins with this word; what it holds is not looked at: the kernels are those of the emulation.
    uint32_t magic;
    memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50) return 200;
    // Read in words of 8 and 16 bytes.
    if (reinterpret_cast<uintptr_t>(image) % 16) return INVALID_VALUE;
    ++modules;
    *module = &functions;
    return SUCCESS;
}
Result cuModuleUnload(void*) {
    BEGIN("cuModuleUnload");
    --modules;
    return SUCCESS;
}
Result cuModuleGetFunction(void** function, void*, const char* name) {
    BEGIN("cuModuleGetFunction");
    const emulation::Registration* kernel = emulation::find_kernel(name);
    if (!kernel) return NOT_FOUND;
    *function = &functions.emplace(name, Function{kernel}).first->second;
    return SUCCESS;
}
Result cuFuncSetAttribute(void* function, int attribute, int value) {
    BEGIN("cuFuncSetAttribute");
    if (attribute == 9) { // PREFERRED_SHARED_MEMORY_CARVEOUT, in per cent
        if (value < 0 || value > 100) return INVALID_VALUE;
        // The next larger of the sizes that there are.
        const unsigned wanted = LARGEST_CARVEOUT / 100 * value + LARGEST_CARVEOUT % 100 * value / 100;
        for (const unsigned kilobytes : {0u, 8u, 16u, 32u, 64u, 100u, 132u, 164u, 196u, 228u})
            if (wanted <= kilobytes << 10) return static_cast<Function*>(function)->carveout = kilobytes << 10, SUCCESS;
        return INVALID_VALUE;
    }
    if (attribute != 8 || value < 0 || unsigned(value) > LARGEST_SHARED_BYTES) return INVALID_VALUE;
    static_cast<Function*>(function)->largest_shared = value;
    return SUCCESS;
}
Result cuStreamCreate(void** stream, unsigned) {
    BEGIN("cuStreamCreate");
    streams.push_back(new Stream);
    *stream = streams.back();
    return SUCCESS;
}
Result cuStreamDestroy_v2(void* stream) {
    BEGIN("cuStreamDestroy_v2");
    std::erase(streams, static_cast<Stream*>(stream));
    delete static_cast<Stream*>(stream);
    return SUCCESS;
}
Result cuStreamSynchronize(void* stream) {
    BEGIN("cuStreamSynchronize");
    return wait_for(*static_cast<Stream*>(stream));
}
Result cuStreamBeginCapture_v2(void* handle, int) {
    BEGIN("cuStreamBeginCapture_v2");
    auto& stream = *static_cast<Stream*>(handle);
    if (stream.recording) return INVALID_VALUE;
    stream.recording = new Graph;
    return SUCCESS;
}
Result cuStreamBeginCaptureToGraph(void* handle, void* graph, const void*, const void*, size_t dependencies, int) {
    BEGIN("cuStreamBeginCaptureToGraph");
    auto& stream = *static_cast<Stream*>(handle);
    if (is_old() || stream.recording || !graph || dependencies) return INVALID_VALUE;
    stream.recording = static_cast<Graph*>(graph);
    stream.into_body = true;
    return SUCCESS;
}
Result cuStreamEndCapture(void* handle, void** graph) {
    BEGIN("cuStreamEndCapture");
    auto& stream = *static_cast<Stream*>(handle);
    if (!stream.recording) return INVALID_VALUE;
    *graph = stream.recording;
    graphs += !stream.into_body; // a body goes with the graph that it is of
    stream.recording = nullptr;
    stream.into_body = false;
    return SUCCESS;
}
Result cuGraphCreate(void** graph, unsigned flags) {
    BEGIN("cuGraphCreate");
    if (flags) return INVALID_VALUE;
    *graph = new Graph;
    ++graphs;
    return SUCCESS;
}
// The handle is the address of the condition, which the emulated kernel writes.
Result cuGraphConditionalHandleCreate(uint64_t* handle, void* graph, void* of, unsigned initial, unsigned flags) {
    BEGIN("cuGraphConditionalHandleCreate");
    // Without CU_GRAPH_COND_ASSIGN_DEFAULT a second launch would begin with what the first one left behind.
    if (is_old() || of != context || initial != 1 || flags != 1) return INVALID_VALUE;
    auto condition = std::make_shared<uint32_t>(initial);
    static_cast<Graph*>(graph)->conditions.push_back(condition);
    *handle = reinterpret_cast<uint64_t>(condition.get());
    return SUCCESS;
}
Result cuGraphAddNode_v2(void** node, void* handle, const void*, const void*, size_t dependencies, void* params) {
    BEGIN("cuGraphAddNode_v2");
    auto& graph = *static_cast<Graph*>(handle);
    auto& wanted = *static_cast<ConditionalNode*>(params);
    if (is_old() || dependencies || wanted.type != CONDITIONAL || wanted.kind != WHILE || wanted.size != 1 || wanted.context != context)
        return INVALID_VALUE;
    const auto is_it = [&](const auto& condition) { return reinterpret_cast<uint64_t>(condition.get()) == wanted.handle; };
    const auto found = std::find_if(graph.conditions.begin(), graph.conditions.end(), is_it);
    if (found == graph.conditions.end()) return INVALID_VALUE;
    graph.bodies.push_back(std::make_shared<Graph>());
    static void* bodies[1];
    bodies[0] = graph.bodies.back().get();
    wanted.bodies = bodies;
    *node = bodies[0];
    graph.work.push_back([condition = *found, body = graph.bodies.back()] {
        *condition = 1;
        for (unsigned turn = 0; *condition; ++turn) {
            if (turn == MOST_TURNS) return fprintf(stderr, "a loop did not end in %u turns\n", turn), LAUNCH_FAILED;
            ++turns;
            for (const Work& work : body->work)
                if (const Result failure = work()) return failure;
        }
        return SUCCESS;
    });
    return SUCCESS;
}
Result cuFuncLoad(void* function) {
    BEGIN("cuFuncLoad");
    return is_old() || !function ? INVALID_VALUE : SUCCESS;
}
Result cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    BEGIN("cuGraphInstantiateWithFlags");
    *executable = new Graph(*static_cast<Graph*>(graph));
    ++executables;
    return SUCCESS;
}
Result cuGraphLaunch(void* executable, void* stream) {
    BEGIN("cuGraphLaunch");
    for (const Work& work : static_cast<Graph*>(executable)->work) submit(stream, work);
    return SUCCESS;
}
Result cuGraphDestroy(void* graph) {
    BEGIN("cuGraphDestroy");
    --graphs;
    delete static_cast<Graph*>(graph);
    return SUCCESS;
}
Result cuGraphExecDestroy(void* executable) {
    BEGIN("cuGraphExecDestroy");
    --executables;
    delete static_cast<Graph*>(executable);
    return SUCCESS;
}
Result cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    BEGIN("cuMemGetInfo_v2");
    *total = capacity();
    *free_bytes = *total - in_use;
    return SUCCESS;
}
Result cuMemAlloc_v2(Address* address, size_t bytes) {
    BEGIN("cuMemAlloc_v2");
    for (const Stream* stream : streams)
        if (stream->recording) return CAPTURE_UNSUPPORTED;
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > capacity() - in_use) return OUT_OF_MEMORY;
    if (!(*address = eqprop_emulation_alloc(bytes))) return OUT_OF_MEMORY;
    allocations[*address] = bytes;
    in_use += bytes;
    return SUCCESS;
}
Result cuMemFree_v2(Address address) {
    BEGIN("cuMemFree_v2");
    if (const Result failure = wait_for_all()) return failure;
    const auto found = allocations.find(address);
    if (found == allocations.end()) return INVALID_VALUE;
    in_use -= found->second;
    allocations.erase(found);
    eqprop_emulation_free(address);
    return SUCCESS;
}
Result cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    BEGIN("cuMemHostAlloc");
    for (const Stream* stream : streams)
        if (stream->recording) return CAPTURE_UNSUPPORTED;
    if (bytes == 0 || !(*memory = malloc(bytes))) return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
    pinned[*memory] = bytes;
    return SUCCESS;
}
Result cuMemFreeHost(void* memory) {
    BEGIN("cuMemFreeHost");
    if (!pinned.erase(memory)) return INVALID_VALUE;
    free(memory);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    BEGIN("cuMemcpyHtoDAsync_v2");
    if (!inside(to, bytes)) return INVALID_VALUE;
    return submit(stream, [=] { return memcpy(reinterpret_cast<void*>(to), from, bytes), SUCCESS; });
}
Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    BEGIN("cuMemcpyDtoHAsync_v2");
    if (!inside(from, bytes)) return INVALID_VALUE;
    return submit(stream, [=] { return memcpy(to, reinterpret_cast<const void*>(from), bytes), SUCCESS; });
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    BEGIN("cuMemcpyDtoDAsync_v2");
    if (!inside(to, bytes) || !inside(from, bytes)) return INVALID_VALUE;
    return submit(stream, [=] {
        return memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes), SUCCESS;
    });
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void* stream) {
    BEGIN("cuMemsetD8Async");
    if (!inside(to, bytes)) return INVALID_VALUE;
    return submit(stream, [=] { return memset(reinterpret_cast<void*>(to), value, bytes), SUCCESS; });
}
Result cuLaunchKernel(void* handle, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads, unsigned threads_y,
                      unsigned threads_z, unsigned shared, void* stream, void** parameters, void** extra) {
    BEGIN("cuLaunchKernel");
    const auto& function = *static_cast<Function*>(handle);
    const bool flat = blocks_y == 1 && blocks_z == 1 && threads_y == 1 && threads_z == 1;
    if (!flat || blocks == 0 || threads == 0 || extra || shared > function.largest_shared) return INVALID_VALUE;
    if (2 * (shared + SYSTEM_SHARED_BYTES) > function.carveout) ++lonely;
    // A driver copies the parameters before it returns.
    const auto* bytes = static_cast<const unsigned char*>(parameters[0]);
    std::vector<unsigned char> args(bytes, bytes + function.kernel->args_bytes);
    const char* name = function.kernel->name;
    return submit(stream, [=] {
        alignas(16) unsigned char aligned[4096];
        if (args.size() > sizeof aligned) return INVALID_VALUE;
        memcpy(aligned, args.data(), args.size());
        ++executed;
        const int problem = eqprop_emulation_launch(name, blocks, threads, shared, aligned);
        if (problem) fprintf(stderr, "kernel %s: code %d of eqprop_emulation_launch\n", name, problem);
        return problem ? LAUNCH_FAILED : SUCCESS;
    });
}

// What nccl.cpp needs: its exchanges lie in streams, too.
int eqprop_driver_inside(const void* address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    return inside(reinterpret_cast<Address>(address), bytes);
}
Result eqprop_driver_submit(void* stream, Result (*work)(void*), void* data) {
    std::lock_guard<std::mutex> guard(lock);
    const auto known = std::find(streams.begin(), streams.end(), static_cast<Stream*>(stream));
    if (!context || known == streams.end() || (*known)->recording) return INVALID_VALUE;
    return submit(stream, [=] { return work(data); });
}
}
