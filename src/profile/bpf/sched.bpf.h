/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* On-CPU and off-CPU slices of the targets' threads, with the reason for the wait. */
#pragma once
#include "common.bpf.h"

struct thread_state {
	u64 on_since;       /* when it got the CPU, 0 if before the capture */
	u64 off_since;      /* when it lost the CPU */
	u64 woken;          /* when it was woken, 0 if it was not */
	u32 waker;
	u32 off_state;      /* task state bits when it lost the CPU */
	u32 preempted;
	u32 sys_nr;         /* number + 1 of the system call it is in, 0 for none or unknown */
	u64 sys_since;
	u64 sys_args[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread_state);
} thread_states SEC(".maps");

static __always_inline struct thread_state *state_of(struct task_struct *task)
{
	return bpf_task_storage_get(&thread_states, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* What began before the capture, or before the thread itself, begins there. */
static __always_inline u64 since(u64 known, struct task_struct *task)
{
	if (known)
		return known;
	struct settings *s = get_settings();
	u64 start = s ? s->start : 0;
	u64 born = BPF_CORE_READ(task, start_time);
	return born > start ? born : start;
}

enum { SYS_FUTEX = 202, SYS_FUTEX_WAIT = 455 };

static __always_inline struct file *file_of(struct task_struct *task, u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	struct file **fds = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &fds[fd]);
	return file;
}

/* Calls that read or write the descriptor in their first argument. */
static __always_inline bool moves_data(u32 nr)
{
	switch (nr) {
	case 0: case 1: case 17: case 18: case 19: case 20: case 40: case 295: case 296: case 327: case 328: return true;
	}
	return false;
}

/* The system call a sleeping thread is in, from the registers it entered the kernel with
 * (orig_ax is negative for faults and interrupts). A wait on the GIL is told by its address. */
static __always_inline u32 sleeping_in(struct task_struct *task, struct target *target, u32 *flags)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	long nr = BPF_CORE_READ(regs, orig_ax);
	if (nr < 0 || nr > 1024)
		return 0;
	if (nr == SYS_FUTEX || nr == SYS_FUTEX_WAIT) {
		u64 address = BPF_CORE_READ(regs, di);
		if (address >= target->gil_start && address < target->gil_end)
			*flags |= OFF_GIL;
	} else if (moves_data(nr)) {
		struct file *file = file_of(task, BPF_CORE_READ(regs, di));
		*flags |= (u32)(BPF_CORE_READ(file, f_inode, i_mode) >> 12) << OFF_FILE_TYPE_SHIFT;
	}
	return nr + 1;
}

static __always_inline void head_of(struct head *h, struct task_struct *task, u64 start, u64 end, u32 kind)
{
	h->start = start;
	h->dur = end > start ? end - start : 0;
	h->tgid = BPF_CORE_READ(task, tgid);
	h->tid = BPF_CORE_READ(task, pid);
	h->id = 0;
	h->kind = kind;
	h->aux = 0;
}

static __always_inline void off_cpu(struct task_struct *task, struct target *target, bool preempt, u32 state, u64 now)
{
	struct thread_state *t = state_of(task);
	if (!t)
		return;
	struct head h;
	head_of(&h, task, since(t->on_since, task), now, KIND_ON_CPU);
	h.id = bpf_get_smp_processor_id();
	emit_slice(&h, sizeof(h));
	t->off_since = now;
	t->woken = 0;
	t->waker = 0;
	t->off_state = state;
	t->preempted = preempt || state == 0;
	count_hit(HIT_SWITCH, 1);
}

static __always_inline void on_cpu(struct task_struct *task, struct target *target, u64 now)
{
	struct thread_state *t = state_of(task);
	if (!t)
		return;
	struct off_cpu record = {};
	u64 start = since(t->off_since, task);
	head_of(&record.h, task, start, now, KIND_OFF_CPU);
	if (t->preempted)
		record.flags = OFF_PREEMPTED;
	else
		record.h.id = sleeping_in(task, target, &record.flags);
	if (BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait))
		record.flags |= OFF_IO_WAIT;
	record.h.aux = t->off_state;
	if (t->woken > start && t->woken < now)
		record.runnable = now - t->woken;
	record.waker = t->waker;
	t->on_since = now;
	t->off_since = 0;
	emit_slice(&record, sizeof(record));
	count_hit(HIT_SWITCH, 1);
}

/* The running thread ends here: what it ran since it got the CPU. */
static __always_inline void last_on_cpu(struct task_struct *task)
{
	struct settings *s = get_settings();
	if (!s || !(s->layers & LAYER_SCHED))
		return;
	struct thread_state *t = state_of(task);
	if (!t)
		return;
	struct head h;
	u64 now = bpf_ktime_get_ns();
	head_of(&h, task, since(t->on_since, task), now, KIND_ON_CPU);
	h.id = bpf_get_smp_processor_id();
	emit_slice(&h, sizeof(h));
	t->on_since = now;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int state)
{
	u64 now = bpf_ktime_get_ns();
	struct target *target = target_of(BPF_CORE_READ(prev, tgid));
	if (target)
		off_cpu(prev, target, preempt, state, now);
	target = target_of(BPF_CORE_READ(next, tgid));
	if (target)
		on_cpu(next, target, now);
	return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	if (!target_of(BPF_CORE_READ(task, tgid)))
		return 0;
	struct thread_state *t = state_of(task);
	if (t && t->off_since && !t->woken) {
		t->woken = bpf_ktime_get_ns();
		t->waker = (u32)bpf_get_current_pid_tgid();
	}
	count_hit(HIT_WAKEUP, 1);
	return 0;
}
