/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Records, maps and settings shared by all objects. src/profile/records.rs mirrors the
 * records; a change here is a change there. Maps of the same name in several objects are
 * one map: the loader gives the later objects the first one's file descriptors. */
#pragma once
#include "types.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define MAX_FRAMES 128
#define OP_DEPTH 64

/* What a record is; `id` and the payload depend on it. */
enum kind {
	/* ring `slices` */
	KIND_ON_CPU = 1,   /* id: cpu */
	KIND_OFF_CPU = 2,  /* struct off_cpu */
	KIND_SYSCALL = 3,  /* struct syscall_slice; id: number */
	KIND_OP = 4,       /* id: index of the operator; aux: depth */
	KIND_CUDA = 5,     /* struct call_slice; id: probe id */
	/* ring `rare` */
	KIND_NCCL = 16,    /* struct call_slice; id: probe id */
	KIND_TORCH = 17,   /* struct call_slice; id: probe id (backward node, backward, scope) */
	KIND_BLOCK = 18,   /* struct block_slice */
	KIND_FAULT = 19,   /* struct fault */
	KIND_FORK = 20,    /* struct task_event; id: child tgid, aux: 1 for a new process, 0 for a thread */
	KIND_EXEC = 21,    /* struct task_event */
	KIND_EXIT = 22,    /* struct task_event; aux: 1 when the whole process is gone */
	KIND_MAPPED = 23,  /* an executable mapping was made: look for new libraries */
	KIND_PATH = 24,    /* struct path_event */
	/* ring `samples` */
	KIND_STACK = 32,   /* struct stack */
};

/* Every record starts with this. */
struct head {
	u64 start; /* CLOCK_MONOTONIC ns */
	u64 dur;   /* ns */
	u32 tgid;
	u32 tid;
	u32 id;
	u16 kind;
	u16 aux;
};

struct off_cpu {
	struct head h;      /* id: syscall number + 1, 0 for none; aux: task state bits */
	u64 runnable;       /* ns from the wake-up to running again */
	u32 waker;          /* tid that woke it, 0 if unknown */
	u32 flags;          /* OFF_* */
};
enum { OFF_GIL = 1, OFF_PREEMPTED = 2, OFF_IO_WAIT = 4, OFF_FILE_TYPE_SHIFT = 8 /* then the inode's type, 4 bits */ };

struct syscall_slice {
	struct head h;
	s64 ret;
	u64 arg0;
	u64 arg1;
	u64 file;           /* key of KIND_PATH, 0 for none */
};

/* A probed C function: its first six integer arguments, the seventh and eighth word from
 * the stack, the return address on entry and the returned value. */
struct call_slice {
	struct head h;
	u64 args[6];
	u64 stack[2];
	u64 caller;
	u64 ret;
	u64 extra;          /* probe-specific: what an out-pointer held at return */
	char text[64];      /* probe-specific: a name read from memory, NUL-ended */
};

struct block_slice {
	struct head h;      /* id: dev; aux: request operation (REQ_OP_*) */
	u64 sector;
	u32 bytes;
	u32 pad;
	char disk[32];
};

struct fault {
	struct head h;
	u64 address;
};

struct task_event {
	struct head h;
	char comm[16];
};

#define PATH_PARTS 24
#define PATH_TEXT 768
struct path_event {
	struct head h;      /* id: mode bits of the inode; aux: number of parts */
	u64 file;
	u32 fd;
	u32 len;            /* bytes used in text */
	char text[PATH_TEXT]; /* NUL-separated components, the last one first */
};

struct frame {
	u64 code;           /* address of the PyCodeObject */
	u64 ip;             /* instruction pointer inside it (address), or what the version has */
	u64 at;             /* address of the interpreter frame */
};

enum { STACK_WAITING = 1, STACK_GIL_HELD = 2, STACK_GIL_KNOWN = 4, STACK_TRUNCATED = 8, STACK_FAULT = 16, STACK_NO_PYTHON = 32 };
struct stack {
	struct head h;      /* start, dur: the moment sampled, or the blocking call; id: STACK_*; aux: frames */
	u64 ip;             /* user instruction pointer */
	struct frame frames[MAX_FRAMES]; /* innermost first */
};

/* ---- settings the loader may change while running ---- */
struct settings {
	u64 syscall_threshold;  /* ns; shorter system calls are only counted */
	u64 wait_stack_threshold; /* ns; a blocking call at least this long gets a Python stack */
	u64 start;              /* CLOCK_MONOTONIC ns: what began earlier is taken to begin here */
	u32 layers;             /* LAYER_* */
	u32 pad;
};
enum { LAYER_SCHED = 1, LAYER_SYSCALL = 2, LAYER_IO = 4, LAYER_PYTHON = 8, LAYER_TORCH = 16, LAYER_CUDA = 32, LAYER_NCCL = 64 };

/* ---- counters ---- */
enum hit { /* index into `hits`: how often each class of probe ran for a target */
	HIT_SWITCH, HIT_WAKEUP, HIT_SYSCALL, HIT_SAMPLE, HIT_WAIT_STACK, HIT_BLOCK, HIT_FAULT,
	HIT_OP, HIT_TORCH, HIT_CUDA, HIT_CUDA_RET, HIT_NCCL, HIT_FRAMES, HIT_MAX = 16,
};
enum lost { LOST_SLICES, LOST_SAMPLES, LOST_RARE, LOST_UNPAIRED, LOST_UNWIND, LOST_MAX = 8 };

struct target {
	u32 flags;
	u32 root;           /* tgid of the target named by the user that it descends from */
	u64 gil_start;      /* a futex inside [gil_start, gil_end) is the GIL */
	u64 gil_end;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct target);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HIT_MAX);
	__type(key, u32);
	__type(value, u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOST_MAX);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} slices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} rare SEC(".maps");

static __always_inline struct settings *get_settings(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline void count_hit(u32 which, u64 n)
{
	u64 *value = bpf_map_lookup_elem(&hits, &which);
	if (value)
		*value += n;
}

static __always_inline void count_lost(u32 which)
{
	u64 *value = bpf_map_lookup_elem(&lost, &which);
	if (value)
		*value += 1;
}

static __always_inline struct target *target_of(u32 tgid)
{
	return bpf_map_lookup_elem(&targets, &tgid);
}

/* Waking the reader costs more than the record; let it sleep until much is queued. */
static __always_inline u64 slices_wakeup(void)
{
	return bpf_ringbuf_query(&slices, BPF_RB_AVAIL_DATA) >= (1 << 20) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void emit_slice(void *record, u64 size)
{
	if (bpf_ringbuf_output(&slices, record, size, slices_wakeup()))
		count_lost(LOST_SLICES);
}

static __always_inline void emit_rare(void *record, u64 size, u64 flags)
{
	if (bpf_ringbuf_output(&rare, record, size, flags))
		count_lost(LOST_RARE);
}

static __always_inline void fill_head(struct head *h, u64 start, u64 end, u32 kind, u32 id, u32 aux)
{
	u64 both = bpf_get_current_pid_tgid();
	h->start = start;
	h->dur = end > start ? end - start : 0;
	h->tgid = both >> 32;
	h->tid = (u32)both;
	h->id = id;
	h->kind = kind;
	h->aux = aux;
}
