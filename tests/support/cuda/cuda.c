/* Stands in for libcuda.so.1. Memory of its GPU is memory of the host, and a copy that was queued is
 * made when its queue is waited for, not before: a buffer that is filled again too early is seen in
 * what arrives. AICTL_TEST_CUDA says what is different, in words apart by spaces: "CALL=CODE" makes a
 * call fail, "CALL=hang" makes it never return, "gpus=N", "free=BYTES", "corrupt" (one byte of what
 * arrives is wrong), "log=FILE" (what was taken and given back, at the end). */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define INVALID_VALUE 1
#define OUT_OF_MEMORY 2
#define NO_DEVICE 100
#define INVALID_DEVICE 101
#define INVALID_CONTEXT 201

typedef struct copy { struct copy *next; char *to; const char *from; size_t size; struct event *mark; } copy;
typedef struct stream { copy *first, **last; } stream;
typedef struct event { stream *in; double when; } event;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int current;
static long taken, host_taken, streams, events, contexts, bytes_copied;
static struct { char *start; size_t size; } block[4096], host_block[256];

static const char *setting(const char *name)
{
	static char text[4096];
	const char *all = getenv("AICTL_TEST_CUDA");
	size_t length = strlen(name);
	if (!all || strlen(all) >= sizeof text)
		return NULL;
	for (const char *word = all; word && *word; word = strchr(word, ' ') ? strchr(word, ' ') + 1 : NULL)
		if (!strncmp(word, name, length) && (word[length] == '=' || word[length] == ' ' || !word[length]))
			return word[length] == '=' ? word + length + 1 : "";
	return NULL;
}

/* What the setting makes of a call: 0 goes on. */
static int fate(const char *call)
{
	const char *value = setting(call);
	if (!value)
		return 0;
	if (!strncmp(value, "hang", 4))
		for (;;)
			pause();
	return atoi(value);
}

#define BEGIN(call) int code = fate(call); if (code) return code;
#define NEEDS_CONTEXT if (!current) return INVALID_CONTEXT;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long gpus(void)
{
	const char *value = setting("gpus");
	return value ? atol(value) : 1;
}

/* Whether a range lies in one allocation. */
static int is_in(char *start, size_t size)
{
	for (unsigned i = 0; i < sizeof block / sizeof *block; i++)
		if (block[i].start && start >= block[i].start && start + size <= block[i].start + block[i].size)
			return 1;
	return 0;
}

API int cuInit(unsigned flags) { BEGIN("cuInit"); return flags ? INVALID_VALUE : gpus() ? 0 : NO_DEVICE; }
API int cuDeviceGetCount(int *count) { BEGIN("cuDeviceGetCount"); *count = (int)gpus(); return 0; }
API int cuDeviceGet(int *device, int ordinal)
{
	BEGIN("cuDeviceGet");
	if (ordinal < 0 || ordinal >= gpus())
		return INVALID_DEVICE;
	*device = ordinal + 7; /* a handle is no number of a GPU */
	return 0;
}
API int cuDeviceGetName(char *name, int length, int device)
{
	BEGIN("cuDeviceGetName");
	snprintf(name, (size_t)length, "Stand-in %d", device - 7);
	return 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int device)
{
	BEGIN("cuDevicePrimaryCtxRetain");
	*context = (void *)(intptr_t)(device * 16);
	contexts++;
	return 0;
}
API int cuDevicePrimaryCtxRelease_v2(int device)
{
	const char *log = setting("log");
	(void)device;
	contexts--;
	if (log) {
		char path[1024];
		snprintf(path, sizeof path, "%.*s", (int)strcspn(log, " "), log);
		FILE *file = fopen(path, "w");
		if (file) {
			fprintf(file, "device %ld host %ld streams %ld events %ld contexts %ld\n", taken, host_taken, streams, events, contexts);
			fclose(file);
		}
	}
	return 0;
}
API int cuCtxSetCurrent(void *context) { BEGIN("cuCtxSetCurrent"); current = context != NULL; return 0; }
API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
	BEGIN("cuMemGetInfo");
	NEEDS_CONTEXT
	const char *value = setting("free");
	*total = (size_t)80 << 30;
	*free_bytes = value ? (size_t)atoll(value) : *total;
	return 0;
}
API int cuMemAlloc_v2(uint64_t *address, size_t size)
{
	BEGIN("cuMemAlloc");
	NEEDS_CONTEXT
	char *memory = size ? aligned_alloc(512, (size + 511) / 512 * 512) : NULL;
	if (!memory)
		return size ? OUT_OF_MEMORY : INVALID_VALUE;
	memset(memory, 0xee, size);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < sizeof block / sizeof *block; i++)
		if (!block[i].start) {
			block[i].start = memory;
			block[i].size = size;
			break;
		}
	taken++;
	pthread_mutex_unlock(&lock);
	*address = (uint64_t)(uintptr_t)memory;
	return 0;
}
API int cuMemFree_v2(uint64_t address)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < sizeof block / sizeof *block; i++)
		if (block[i].start == (char *)(uintptr_t)address) {
			free(block[i].start);
			block[i].start = NULL;
			taken--;
			pthread_mutex_unlock(&lock);
			return 0;
		}
	pthread_mutex_unlock(&lock);
	return INVALID_VALUE;
}
API int cuMemHostAlloc(void **memory, size_t size, unsigned flags)
{
	BEGIN("cuMemHostAlloc");
	NEEDS_CONTEXT
	if (flags & ~7u || !size)
		return INVALID_VALUE;
	*memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < sizeof host_block / sizeof *host_block; i++)
		if (!host_block[i].start) {
			host_block[i].start = *memory;
			host_block[i].size = size;
			break;
		}
	host_taken++;
	pthread_mutex_unlock(&lock);
	return 0;
}
API int cuMemFreeHost(void *memory)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < sizeof host_block / sizeof *host_block; i++)
		if (host_block[i].start == memory)
			host_block[i].start = NULL;
	host_taken--;
	pthread_mutex_unlock(&lock);
	free(memory);
	return 0;
}
API int cuStreamCreate(void **made, unsigned flags)
{
	BEGIN("cuStreamCreate");
	NEEDS_CONTEXT
	if (flags > 1)
		return INVALID_VALUE;
	stream *s = calloc(1, sizeof *s);
	s->last = &s->first;
	*made = s;
	__sync_fetch_and_add(&streams, 1);
	return 0;
}

/* Makes the copies of a queue, up to and with a mark. */
static void drain(stream *s, event *until)
{
	while (s->first) {
		copy *c = s->first;
		int last = until && c->mark == until;
		if (c->to) {
			memcpy(c->to, c->from, c->size);
			__sync_fetch_and_add(&bytes_copied, (long)c->size);
			if (setting("corrupt"))
				c->to[c->size / 2] ^= 1, c->to[0] ^= 1;
		}
		if (c->mark) {
			c->mark->in = NULL;
			c->mark->when = now();
		}
		s->first = c->next;
		if (!s->first)
			s->last = &s->first;
		free(c);
		if (last)
			break;
	}
}
API int cuStreamSynchronize(void *s) { BEGIN("cuStreamSynchronize"); drain(s, NULL); return 0; }
API int cuStreamDestroy_v2(void *s) { drain(s, NULL); free(s); __sync_fetch_and_sub(&streams, 1); return 0; }
API int cuEventCreate(void **made, unsigned flags)
{
	BEGIN("cuEventCreate");
	NEEDS_CONTEXT
	(void)flags;
	*made = calloc(1, sizeof(event));
	__sync_fetch_and_add(&events, 1);
	return 0;
}
API int cuEventDestroy_v2(void *e) { free(e); __sync_fetch_and_sub(&events, 1); return 0; }
static void queue(stream *s, copy item)
{
	copy *c = malloc(sizeof *c);
	*c = item;
	c->next = NULL;
	*s->last = c;
	s->last = &c->next;
}
API int cuEventRecord(void *e, void *s)
{
	BEGIN("cuEventRecord");
	((event *)e)->in = s;
	queue(s, (copy){ .mark = e });
	return 0;
}
API int cuEventSynchronize(void *e)
{
	BEGIN("cuEventSynchronize");
	if (((event *)e)->in)
		drain(((event *)e)->in, e);
	return 0;
}
API int cuEventElapsedTime(float *ms, void *from, void *to)
{
	BEGIN("cuEventElapsedTime");
	*ms = (float)((((event *)to)->when - ((event *)from)->when) * 1e3) + 0.001f;
	return 0;
}
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *s)
{
	BEGIN("cuMemcpyHtoDAsync");
	NEEDS_CONTEXT
	if (!is_in((char *)(uintptr_t)to, size))
		return INVALID_VALUE;
	/* A copy from memory that is not pinned would not be asynchronous. */
	int pinned = 0;
	for (unsigned i = 0; i < sizeof host_block / sizeof *host_block; i++)
		pinned |= host_block[i].start && (const char *)from >= host_block[i].start
			&& (const char *)from + size <= host_block[i].start + host_block[i].size;
	if (!pinned)
		return INVALID_VALUE;
	queue(s, (copy){ .to = (char *)(uintptr_t)to, .from = from, .size = size });
	return 0;
}
API int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size)
{
	BEGIN("cuMemcpyDtoH");
	NEEDS_CONTEXT
	if (!is_in((char *)(uintptr_t)from, size))
		return INVALID_VALUE;
	memcpy(to, (char *)(uintptr_t)from, size);
	return 0;
}
API int cuIpcGetMemHandle(char *handle, uint64_t address)
{
	BEGIN("cuIpcGetMemHandle");
	NEEDS_CONTEXT
	memset(handle, 0, 64);
	memcpy(handle, &address, sizeof address);
	return 0;
}
API int cuGetErrorName(int code, const char **name)
{
	*name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE"
		: code == 999 ? NULL : "CUDA_ERROR_INVALID_VALUE";
	return code == 999;
}
