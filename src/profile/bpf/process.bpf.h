/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Follows the targets: forks join them before they run, the dead leave. */
#pragma once
#include "sched.bpf.h"

static __always_inline void task_event(struct task_struct *task, u32 kind, u32 id, u32 aux, u64 wakeup)
{
	struct task_event event = {};
	event.h.start = bpf_ktime_get_ns();
	event.h.tgid = BPF_CORE_READ(task, tgid);
	event.h.tid = BPF_CORE_READ(task, pid);
	event.h.kind = kind;
	event.h.id = id;
	event.h.aux = aux;
	bpf_probe_read_kernel(&event.comm, sizeof(event.comm), task->comm);
	emit_rare(&event, sizeof(event), wakeup);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	u32 from = BPF_CORE_READ(parent, tgid), to = BPF_CORE_READ(child, tgid);
	struct target *target = target_of(from);
	if (!target || from == to)
		return 0;
	struct target copy = *target;
	if (bpf_map_update_elem(&targets, &to, &copy, BPF_ANY)) {
		count_lost(LOST_RARE);
		return 0;
	}
	/* At once: a short-lived child's name is to be had only while it lives. */
	task_event(parent, KIND_FORK, to, 1, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	u32 tgid = BPF_CORE_READ(task, tgid);
	struct target *target = target_of(tgid);
	if (!target)
		return 0;
	/* Another program: its GIL, if any, lies elsewhere. */
	target->gil_start = 0;
	target->gil_end = 0;
	task_event(task, KIND_EXEC, 0, 0, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	u32 tgid = BPF_CORE_READ(task, tgid);
	if (!target_of(tgid))
		return 0;
	bool last = BPF_CORE_READ(task, signal, live.counter) == 0;
	/* Its last switch comes when it is no target any more. */
	last_on_cpu(task);
	/* Waking the reader costs the target up to 20 us; a thread's end can wait for the next tick. */
	task_event(task, KIND_EXIT, 0, last, last ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	if (last)
		bpf_map_delete_elem(&targets, &tgid);
	return 0;
}
