// The part of NCCL's interface that src/parallel/nccl.rs uses, between processes on one machine that share memory: a libnccl.so.2 for
// machines without a GPU, beside the emulated driver (driver.cpp). It computes the sums, and is stricter than NCCL:
//
//   - what a call names must be: a communicator that lives, a stream of the driver, device memory of one allocation
//   - all ranks must make the same collective calls in the same order, of the same number of values, type and operation; a send must
//     meet a receive of the same size
//   - an exchange begins when its stream is waited for, so that a sum that is read too early is seen
//
// What it finds goes to standard error, and the stream's wait fails. EQPROP_NCCL_SPOILS=RANK:CALL:WHAT has one call made wrongly, as a
// program with a mistake would make it, so that a test sees what is said: WHAT is communicator, stream, memory, size, operation or order.
// EQPROP_NCCL_LOG=FILE gets one line per call that a test may count, when the library is unloaded, with the rank at the end of its name.
#include <atomic>
#include <chrono>
#include <dlfcn.h>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <set>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace {

using Result = int;
// Codes of ncclResult_t, of ncclDataType_t and of ncclRedOp_t.
constexpr Result SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4;
constexpr int FLOAT32 = 7, FLOAT64 = 8;
constexpr int SUM = 0, MAX = 2;
// Of CUresult: what a wait gives when ranks disagree.
constexpr int UNKNOWN = 999;

constexpr int MOST_RANKS = 8;
constexpr size_t MOST_BYTES = size_t{64} << 20;
constexpr auto PATIENCE = std::chrono::seconds(120);

// A call as all ranks must see it.
struct Call {
    char name[16];
    uint64_t count;
    int32_t type, operation;
};

// What the processes share. A file of zeros begins like this.
struct Shared {
    std::atomic<uint32_t> joined, arrived, generation, given_up;
    // of each rank, for the exchange that is under way
    Call calls[MOST_RANKS];
    // for each receiver: the exchange with each sender, 0 while there is nothing, 1 when it is there
    std::atomic<uint32_t> letter[MOST_RANKS];
    Call letters[MOST_RANKS];
};

struct Communicator {
    Shared* shared;
    unsigned char* data; // MOST_BYTES of each rank
    int rank, world;
    std::string path;
};

std::mutex lock;
std::map<std::string, unsigned> calls;
std::set<Communicator*> living;
int rank_of_process = -1;
unsigned begun = 0; // exchanges that were asked for

struct Log {
    ~Log() {
        const char* path = getenv("EQPROP_NCCL_LOG");
        if (!path) return;
        FILE* file = fopen((std::string(path) + "." + std::to_string(rank_of_process)).c_str(), "w");
        if (!file) return;
        for (const auto& [name, count] : calls) fprintf(file, "%s %u\n", name.c_str(), count);
        fprintf(file, "leaked %zu\n", living.size());
        fclose(file);
    }
} log_at_exit;

Result complain(const char* call, const std::string& what) {
    fprintf(stderr, "nccl stand-in, rank %d, %s: %s\n", rank_of_process, call, what.c_str());
    return INVALID_ARGUMENT;
}

// The emulated driver's own functions: this process has loaded it.
template <class F>
F of_driver(const char* name) {
    static void* const driver = dlopen("libcuda.so", RTLD_NOW | RTLD_NOLOAD);
    return driver ? reinterpret_cast<F>(dlsym(driver, name)) : nullptr;
}

size_t bytes_of(int type) { return type == FLOAT32 ? 4 : type == FLOAT64 ? 8 : 0; }

// False when the others do not come.
template <class F>
bool wait_until(const Communicator& c, F done) {
    const auto end = std::chrono::steady_clock::now() + PATIENCE;
    while (!done()) {
        if (c.shared->given_up || std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
}

bool meet(const Communicator& c) {
    Shared& shared = *c.shared;
    const uint32_t before = shared.generation;
    if (++shared.arrived == unsigned(c.world)) {
        shared.arrived = 0;
        ++shared.generation;
        return true;
    }
    return wait_until(c, [&] { return shared.generation != before; });
}

std::string text(const Call& call) {
    return std::string(call.name) + " of " + std::to_string(call.count) + " values of type " + std::to_string(call.type) + ", operation " +
           std::to_string(call.operation);
}

bool same(const Call& a, const Call& b) {
    return !strcmp(a.name, b.name) && a.count == b.count && a.type == b.type && a.operation == b.operation;
}

int fail(Communicator& c, const Call& call, const std::string& what) {
    complain(call.name, what);
    c.shared->given_up = 1;
    return UNKNOWN;
}

// In the order of ranks: the same bits on each.
template <class T>
void reduce(const Communicator& c, const Call& call, T* to) {
    for (uint64_t i = 0; i < call.count; ++i) {
        T value = reinterpret_cast<const T*>(c.data)[i];
        for (int rank = 1; rank < c.world; ++rank) {
            const T other = reinterpret_cast<const T*>(c.data + rank * MOST_BYTES)[i];
            value = call.operation == SUM ? value + other : value > other ? value : other;
        }
        to[i] = value;
    }
}

// One exchange, put off until its stream is waited for.
struct Exchange {
    Communicator* c;
    Call call;
    int peer; // of a letter
    const void* from;
    void* to;
};

int all_reduce(const Exchange& e) {
    Communicator& c = *e.c;
    const size_t bytes = e.call.count * bytes_of(e.call.type);
    c.shared->calls[c.rank] = e.call;
    memcpy(c.data + c.rank * MOST_BYTES, e.from, bytes);
    if (!meet(c)) return fail(c, e.call, "the other ranks do not come");
    for (int rank = 0; rank < c.world; ++rank)
        if (!same(c.shared->calls[rank], e.call))
            return fail(c, e.call, text(e.call) + ", but rank " + std::to_string(rank) + " calls " + text(c.shared->calls[rank]));
    if (e.call.type == FLOAT32) reduce(c, e.call, static_cast<float*>(e.to));
    else reduce(c, e.call, static_cast<double*>(e.to));
    // Nobody gives the next values before all have read these.
    return meet(c) ? SUCCESS : fail(c, e.call, "the other ranks do not come");
}

int send(const Exchange& e) {
    Communicator& c = *e.c;
    auto& letter = c.shared->letter[c.rank];
    c.shared->letters[c.rank] = e.call;
    memcpy(c.data + c.rank * MOST_BYTES, e.from, e.call.count * bytes_of(e.call.type));
    letter = 1;
    return wait_until(c, [&] { return letter == 0; }) ? SUCCESS : fail(c, e.call, "nobody receives");
}

int receive(const Exchange& e) {
    Communicator& c = *e.c;
    auto& letter = c.shared->letter[e.peer];
    if (!wait_until(c, [&] { return letter == 1; })) return fail(c, e.call, "nobody sends");
    const Call& sent = c.shared->letters[e.peer];
    if (sent.count != e.call.count || sent.type != e.call.type)
        return fail(c, e.call, text(e.call) + ", but rank " + std::to_string(e.peer) + " sends " + text(sent));
    memcpy(e.to, c.data + e.peer * MOST_BYTES, e.call.count * bytes_of(e.call.type));
    letter = 0;
    return SUCCESS;
}

// Whether the present call is the one to be made wrongly, and in this way.
bool spoilt(const std::string& what) {
    static const std::string asked = getenv("EQPROP_NCCL_SPOILS") ? getenv("EQPROP_NCCL_SPOILS") : "";
    return asked == std::to_string(rank_of_process) + ":" + std::to_string(begun) + ":" + what;
}

// Checks what every call names, counts it, and puts it off.
Result begin(const char* name, void* communicator, const void* from, void* to, size_t count, int type, int operation, int peer, void* stream,
             int (*work)(const Exchange&)) {
    std::lock_guard<std::mutex> guard(lock);
    ++begun;
    if (spoilt("communicator")) communicator = &begun;
    if (spoilt("stream")) stream = &begun;
    if (spoilt("memory")) from = &begun;
    if (spoilt("size")) ++count;
    if (spoilt("operation")) operation = SUM + MAX - operation;
    if (spoilt("order")) return SUCCESS; // left out: the next one comes in its place
    auto* c = static_cast<Communicator*>(communicator);
    if (!living.count(c)) return complain(name, "the communicator was not made, or is gone");
    if (!bytes_of(type)) return complain(name, "a type that the stand-in does not know");
    ++calls[std::string(name) + (type == FLOAT32 ? " f32" : " f64")];
    const size_t bytes = count * bytes_of(type);
    if (count == 0 || bytes > MOST_BYTES) return complain(name, std::to_string(count) + " values");
    if (peer >= c->world || peer == c->rank) return complain(name, "rank " + std::to_string(peer) + " is none of the others");
    if (operation != SUM && operation != MAX) return complain(name, "an operation that the stand-in does not know");
    const auto inside = of_driver<int (*)(const void*, size_t)>("eqprop_driver_inside");
    const auto submit = of_driver<int (*)(void*, int (*)(void*), void*)>("eqprop_driver_submit");
    if (!inside || !submit) return complain(name, "the emulated driver is not loaded");
    if ((from && !inside(from, bytes)) || (to && !inside(to, bytes))) return complain(name, "the values do not lie in device memory");
    auto* exchange = new Exchange{c, {}, peer, from, to};
    snprintf(exchange->call.name, sizeof exchange->call.name, "%s", name);
    exchange->call.count = count;
    exchange->call.type = type;
    exchange->call.operation = operation;
    struct Put {
        Exchange* exchange;
        int (*work)(const Exchange&);
    };
    const auto run = [](void* data) {
        auto* put = static_cast<Put*>(data);
        const int result = put->work(*put->exchange);
        delete put->exchange;
        delete put;
        return result;
    };
    if (submit(stream, run, new Put{exchange, work})) return complain(name, "the stream is none of the driver's, or is recorded");
    return SUCCESS;
}

} // namespace

extern "C" {

struct ncclUniqueId {
    char internal[128];
};

Result ncclGetVersion(int* version) {
    *version = 22800;
    return SUCCESS;
}

// A file of zeros, whose name is the id.
Result ncclGetUniqueId(ncclUniqueId* id) {
    std::lock_guard<std::mutex> guard(lock);
    ++calls["ncclGetUniqueId"];
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "%s/eqprop-nccl-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    const int file = mkstemp(id->internal);
    if (file < 0 || ftruncate(file, sizeof(Shared) + MOST_RANKS * MOST_BYTES)) return SYSTEM_ERROR;
    close(file);
    return SUCCESS;
}

Result ncclCommInitRank(void** out, int world, ncclUniqueId id, int rank) {
    Communicator* c = nullptr;
    {
        std::lock_guard<std::mutex> guard(lock);
        ++calls["ncclCommInitRank"];
        rank_of_process = rank;
        if (world < 1 || world > MOST_RANKS || rank < 0 || rank >= world) return complain("ncclCommInitRank", "no such rank");
        const int file = open(id.internal, O_RDWR);
        if (file < 0) return complain("ncclCommInitRank", "the id is none of ncclGetUniqueId's");
        void* memory = mmap(nullptr, sizeof(Shared) + MOST_RANKS * MOST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory == MAP_FAILED) return SYSTEM_ERROR;
        c = new Communicator{static_cast<Shared*>(memory), static_cast<unsigned char*>(memory) + sizeof(Shared), rank, world, id.internal};
        living.insert(c);
    }
    *out = c;
    ++c->shared->joined;
    const bool all = wait_until(*c, [&] { return c->shared->joined == unsigned(world); });
    // All have the file open: its name can go.
    if (rank == 0) unlink(id.internal);
    return all ? SUCCESS : complain("ncclCommInitRank", "not all ranks came");
}

Result ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, void* communicator, void* stream) {
    return begin("ncclAllReduce", communicator, from, to, count, type, operation, -1, stream, all_reduce);
}

Result ncclSend(const void* from, size_t count, int type, int peer, void* communicator, void* stream) {
    return begin("ncclSend", communicator, from, nullptr, count, type, SUM, peer, stream, send);
}

Result ncclRecv(void* to, size_t count, int type, int peer, void* communicator, void* stream) {
    return begin("ncclRecv", communicator, nullptr, to, count, type, SUM, peer, stream, receive);
}

static Result release(const char* name, void* communicator) {
    std::lock_guard<std::mutex> guard(lock);
    ++calls[name];
    auto* c = static_cast<Communicator*>(communicator);
    if (!living.erase(c)) return complain(name, "the communicator was not made, or is gone");
    return SUCCESS;
}

Result ncclCommDestroy(void* communicator) { return release("ncclCommDestroy", communicator); }

Result ncclCommAbort(void* communicator) {
    if (living.count(static_cast<Communicator*>(communicator))) static_cast<Communicator*>(communicator)->shared->given_up = 1;
    return release("ncclCommAbort", communicator);
}

const char* ncclGetErrorString(Result) { return "see standard error"; }
const char* ncclGetLastError(void*) { return "see standard error"; }
}
