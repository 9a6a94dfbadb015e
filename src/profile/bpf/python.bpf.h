/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Walks the Python stack of the current task, in the kernel, without stopping it.
 * Where things lie in memory differs by CPython version: user space finds it out
 * (src/profile/python/offsets.rs) and puts it into `py_procs`. */
#pragma once
#include "common.bpf.h"

/* Mirrored by PyProcess in src/profile/python/offsets.rs. */
struct py_process {
	u64 interp_head;      /* address of the pointer to the first interpreter */
	u64 gil;              /* address of the main interpreter's GIL, 0 if unknown */
	u32 tls;              /* thread pointer + tls: the thread state's slot; 0: search the interpreters' lists */
	u32 tls_block;        /* not 0: the slot is in the block that is pointed to there, this far in */
	u16 interp_next;
	u16 interp_threads;
	u16 tstate_next;
	u16 tstate_thread_id; /* pthread_self(), on x86-64 the thread pointer */
	u16 tstate_frame;     /* innermost frame, or the cframe when PY_CFRAME */
	u16 cframe_frame;
	u16 frame_code;
	u16 frame_prev;
	u16 frame_ip;
	u16 frame_owner;
	u16 frame_read;       /* bytes of a frame to read, at most PY_FRAME_BYTES */
	u16 gil_locked;
	u16 gil_holder;
	u8 flags;             /* PY_* */
	u8 skip_owner;        /* frames with at least this owner belong to the interpreter's C code */
};
enum { PY_CFRAME = 1, PY_OWNER = 2, PY_TAGGED = 4 };
#define PY_FRAME_BYTES 128
#define PY_MAX_THREADS 512

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct py_process);
} py_procs SEC(".maps");

/* A sample may interrupt the end of a system call on the same CPU: a slot each. */
enum { PY_SLOT_WAIT, PY_SLOT_SAMPLE, PY_SLOTS };
struct py_scratch {
	struct stack stack;
	u8 frame[PY_FRAME_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PY_SLOTS);
	__type(key, u32);
	__type(value, struct py_scratch);
} py_scratch SEC(".maps");

static __always_inline int py_read(void *to, u32 size, u64 from)
{
	return bpf_probe_read_user(to, size, (const void *)(unsigned long)from);
}

/* State of the search for a thread in the interpreters' lists. */
struct py_search {
	struct py_process *py;
	u64 thread;
	u64 interp;
	u64 tstate;
	u64 found;
};

static long py_search_step(u64 index, struct py_search *s)
{
	u64 id;
	if (!s->tstate) {
		if (!s->interp)
			return 1;
		if (py_read(&s->tstate, 8, s->interp + s->py->interp_threads) ||
		    py_read(&s->interp, 8, s->interp + s->py->interp_next))
			return 1;
		return 0;
	}
	if (py_read(&id, 8, s->tstate + s->py->tstate_thread_id))
		return 1;
	if (id == s->thread) {
		s->found = s->tstate;
		return 1;
	}
	return py_read(&s->tstate, 8, s->tstate + s->py->tstate_next) ? 1 : 0;
}

/* The thread state of the thread whose thread pointer is given; 0 when it has none. */
static __noinline u64 py_thread_state(struct py_process *py, u64 thread, u32 *flags)
{
	struct py_search search = {};
	u64 tstate = 0, id = 0;

	if (!py || !flags)
		return 0;
	if (py->tls) {
		u64 slot = thread + py->tls;
		if (py->tls_block) {
			if (py_read(&slot, 8, slot))
				slot = 0;
			else if (!slot)
				return 0; /* no key of that block was ever set in this thread */
			else
				slot += py->tls_block;
		}
		if (slot && !py_read(&tstate, 8, slot)) {
			if (!tstate)
				return 0;
			if (!py_read(&id, 8, tstate + py->tstate_thread_id) && id == thread)
				return tstate;
		}
	}
	search.py = py;
	search.thread = thread;
	if (py_read(&search.interp, 8, py->interp_head)) {
		*flags |= STACK_FAULT;
		return 0;
	}
	bpf_loop(PY_MAX_THREADS, py_search_step, &search, 0);
	return search.found;
}

struct py_walk {
	struct py_process *py;
	struct py_scratch *scratch;
	u64 at;
	u32 count;
	u32 flags;
};

static long py_walk_step(u64 index, struct py_walk *w)
{
	struct py_process *py = w->py;
	u8 *raw = w->scratch->frame;
	struct frame *frame;
	u32 size = py->frame_read;
	u64 at = w->at;

	if (!at)
		return 1;
	if (size > PY_FRAME_BYTES)
		size = PY_FRAME_BYTES;
	if (py_read(raw, size, at)) {
		w->flags |= STACK_FAULT;
		return 1;
	}
	w->at = *(u64 *)(raw + (py->frame_prev & (PY_FRAME_BYTES - 8)));
	if ((py->flags & PY_OWNER) && raw[py->frame_owner & (PY_FRAME_BYTES - 1)] >= py->skip_owner)
		return 0;
	if (w->count >= MAX_FRAMES) {
		w->flags |= STACK_TRUNCATED;
		return 1;
	}
	frame = &w->scratch->stack.frames[w->count & (MAX_FRAMES - 1)];
	frame->code = *(u64 *)(raw + (py->frame_code & (PY_FRAME_BYTES - 8)));
	if (py->flags & PY_TAGGED)
		frame->code &= ~3ull;
	frame->ip = *(u64 *)(raw + (py->frame_ip & (PY_FRAME_BYTES - 8)));
	frame->at = at;
	w->count++;
	return 0;
}

/* Writes the current thread's frames into the scratch stack and returns their number, with
 * STACK_* in *flags. Negative when nothing could be read although there is Python;
 * STACK_NO_PYTHON when the thread has never run any. */
static __noinline int walk_python(struct py_scratch *scratch, struct py_process *py, u64 thread, u32 *flags)
{
	struct py_walk walk = {};
	u64 tstate, holder;
	u32 locked;

	if (!scratch || !py || !flags)
		return -1;
	tstate = py_thread_state(py, thread, flags);
	if (!tstate) {
		*flags |= STACK_NO_PYTHON;
		return *flags & STACK_FAULT ? -1 : 0;
	}
	if (py->gil && !py_read(&locked, 4, py->gil + py->gil_locked) &&
	    !py_read(&holder, 8, py->gil + py->gil_holder)) {
		*flags |= STACK_GIL_KNOWN;
		if (locked == 1 && holder == tstate)
			*flags |= STACK_GIL_HELD;
	}
	if (py_read(&walk.at, 8, tstate + py->tstate_frame))
		return -1;
	if ((py->flags & PY_CFRAME) && walk.at && py_read(&walk.at, 8, walk.at + py->cframe_frame))
		return -1;
	walk.py = py;
	walk.scratch = scratch;
	/* Twice the frames: entries of the interpreter's C code are passed over. */
	bpf_loop(2 * MAX_FRAMES, py_walk_step, &walk, 0);
	*flags |= walk.flags;
	if (!walk.count && (walk.flags & STACK_FAULT))
		return -1;
	return walk.count;
}

/* Walks the current thread's stack into the slot and sends it. */
static __noinline int python_stack(u32 slot, u64 start, u64 end, u32 tgid, u32 flags)
{
	struct py_process *py = bpf_map_lookup_elem(&py_procs, &tgid);
	struct py_scratch *scratch = bpf_map_lookup_elem(&py_scratch, &slot);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 wakeup;
	int count;

	if (!py || !scratch)
		return 0;
	count = walk_python(scratch, py, task->thread.fsbase, &flags);
	if (count < 0) {
		count_lost(LOST_UNWIND);
		return 0;
	}
	if (flags & STACK_NO_PYTHON)
		return 0;
	count_hit(HIT_FRAMES, count);
	if (count > MAX_FRAMES)
		count = MAX_FRAMES;
	fill_head(&scratch->stack.h, start, end, KIND_STACK, flags, count);
	scratch->stack.ip = regs->ip;
	wakeup = bpf_ringbuf_query(&samples, BPF_RB_AVAIL_DATA) >= (1 << 20) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_output(&samples, &scratch->stack,
			       __builtin_offsetof(struct stack, frames) + (count & 0xff) * sizeof(struct frame), wakeup))
		count_lost(LOST_SAMPLES);
	return 0;
}

/* Sends the stack a thread has at the end of a blocking system call: as nothing ran in
 * between, it was the same from start to end. */
static __always_inline void python_wait_stack(u64 start, u64 end, u32 tgid)
{
	count_hit(HIT_WAIT_STACK, 1);
	python_stack(PY_SLOT_WAIT, start, end, tgid, STACK_WAITING);
}

SEC("perf_event")
int on_sample(void *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct settings *settings = get_settings();
	u64 now;

	if (!settings || !(settings->layers & LAYER_PYTHON) || !target_of(tgid))
		return 0;
	count_hit(HIT_SAMPLE, 1);
	now = bpf_ktime_get_ns();
	python_stack(PY_SLOT_SAMPLE, now, now, tgid, 0);
	return 0;
}
