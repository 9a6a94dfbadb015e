/* Calls CUDA and NCCL in a loop: target RUNTIME DRIVER NCCL LATER. Any may be "-". The libraries
 * may be real ones (every call then fails for want of a GPU) or stub.c. LATER, a library with a
 * kernel of its own, is loaded when a line comes on standard input. Prints "ready" first. */
#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { unsigned x, y, z; } dim3;
typedef struct { char bytes[128]; } unique_id;
int (*launch)(const void *, dim3, dim3, void **, unsigned long, void *);
int scale(void *stream);
int template_kernel(void *stream);

static void *open_library(const char *path)
{
	if (!strcmp(path, "-"))
		return NULL;
	void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	return library;
}

#define GET(library, result, name, ...) result (*name)(__VA_ARGS__) = library ? dlsym(library, #name) : NULL

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	void *driver = open_library(argv[2]), *runtime = open_library(argv[1]), *nccl = open_library(argv[3]);
	GET(runtime, int, cudaLaunchKernel, const void *, dim3, dim3, void **, unsigned long, void *);
	GET(runtime, int, cudaMemcpyAsync, void *, const void *, size_t, int, void *);
	GET(runtime, int, cudaMalloc, void **, size_t);
	GET(runtime, int, cudaStreamSynchronize, void *);
	GET(runtime, int, cudaDeviceSynchronize, void);
	GET(driver, int, cuLaunchKernel, void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
	    void *, void **, void **);
	GET(driver, int, cuModuleGetFunction, void **, void *, const char *);
	GET(driver, int, cuStreamSynchronize, void *);
	GET(nccl, int, ncclCommInitRank, void **, int, unique_id, int);
	GET(nccl, int, ncclAllReduce, const void *, void *, size_t, int, int, void *, void *);
	GET(nccl, int, ncclGroupStart, void);
	GET(nccl, int, ncclGroupEnd, void);
	launch = cudaLaunchKernel;
	int (*later)(void *) = NULL;
	void *stream = (void *)0x5000, *memory = NULL, *comm = NULL, *function = NULL;
	printf("ready\n");
	fflush(stdout);
	for (int turn = 0;; turn++) {
		if (runtime) {
			cudaMalloc(&memory, 4096);
			cudaMemcpyAsync(memory, &turn, 4096, 1, stream);
			scale(stream);
			template_kernel(stream);
			if (later)
				later(stream);
			cudaStreamSynchronize(stream);
			scale(NULL);
			cudaDeviceSynchronize();
		}
		if (driver) {
			/* Now and then again, so that one is seen after the attach. */
			if (turn % 10 == 0 && cuModuleGetFunction)
				cuModuleGetFunction(&function, NULL, "triton_poi_fused_add_relu_of_a_name_that_is_longer_than_one_record_can_hold_0");
			if (cuLaunchKernel)
				cuLaunchKernel(function, 16, 1, 1, 256, 1, 2, 1024, stream, NULL, NULL);
			if (cuStreamSynchronize)
				cuStreamSynchronize(stream);
		}
		if (nccl) {
			unique_id id = {{0}};
			if (turn % 10 == 0)
				ncclCommInitRank(&comm, 4, id, 3);
			ncclGroupStart();
			ncclAllReduce(NULL, NULL, 1 << 20, 7, 0, comm, stream);
			ncclGroupEnd();
			if (runtime)
				cudaStreamSynchronize(stream);
		}
		struct pollfd in = {0, POLLIN, 0};
		if (!later && poll(&in, 1, 2) > 0 && getchar() != EOF && strcmp(argv[4], "-"))
			later = dlsym(open_library(argv[4]), "later");
	}
}
