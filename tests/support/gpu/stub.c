/* Stands in for libcuda.so.1, libcudart.so.12 and libnccl.so.2 where there is no GPU: the
 * functions take what the real ones take, do nothing, and say that all went well. Waiting
 * takes 2 ms, so that estimates have something to estimate. Compile without optimization:
 * every function then starts with a push, as the real ones do. */
#include <stddef.h>
#include <time.h>

#define API __attribute__((visibility("default")))
typedef struct { unsigned x, y, z; } dim3;
typedef struct { char bytes[128]; } unique_id;

static void wait_2ms(void)
{
	struct timespec t = {0, 2000000};
	nanosleep(&t, NULL);
}

/* runtime */
API int cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, void *stream) { return 0; }
API int cudaLaunchKernelExC(const void *config, const void *f, void **args) { return 0; }
API int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *stream) { return 0; }
API int cudaMemcpy(void *to, const void *from, size_t n, int kind) { return 0; }
API int cudaMalloc(void **p, size_t n) { *p = (void *)0x7000000; return 0; }
API int cudaFree(void *p) { return 0; }
API int cudaStreamSynchronize(void *stream) { wait_2ms(); return 0; }
API int cudaDeviceSynchronize(void) { wait_2ms(); return 0; }
API int cudaEventRecord(void *event, void *stream) { return 0; }
API int cudaEventSynchronize(void *event) { wait_2ms(); return 0; }
API int cudaGraphLaunch(void *graph, void *stream) { return 0; }

/* driver */
API int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		       unsigned shared, void *stream, void **params, void **extra) { return 0; }
API int cuModuleGetFunction(void **f, void *module, const char *name) { *f = (void *)0xf00d; return 0; }
API int cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t n, void *stream) { return 0; }
API int cuStreamSynchronize(void *stream) { wait_2ms(); return 0; }

/* NCCL */
API int ncclCommInitRank(void **comm, int ranks, unique_id id, int rank) { *comm = (void *)0xc0111; return 0; }
API int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, void *comm, void *stream) { return 0; }
API int ncclAllGather(const void *from, void *to, size_t count, int type, void *comm, void *stream) { return 0; }
API int ncclReduce(const void *from, void *to, size_t count, int type, int op, int root, void *comm, void *stream) { return 0; }
API int ncclGroupStart(void) { return 0; }
API int ncclGroupEnd(void) { return 0; }
