/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Block requests issued by the targets, and their major page faults. */
#pragma once
#include "common.bpf.h"

struct block_start {
	u64 since;
	u32 tgid;
	u32 tid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct block_start);
} block_starts SEC(".maps");

static __always_inline void block_started(struct request *rq)
{
	u64 both = bpf_get_current_pid_tgid();
	if (!target_of(both >> 32))
		return;
	struct block_start start = { .since = bpf_ktime_get_ns(), .tgid = both >> 32, .tid = (u32)both };
	u64 key = (u64)rq;
	bpf_map_update_elem(&block_starts, &key, &start, BPF_ANY);
	count_hit(HIT_BLOCK, 1);
}

/* Runs where the request is made, so the current task is the one that wants it. */
SEC("tp_btf/block_io_start")
int BPF_PROG(on_block_start, struct request *rq)
{
	block_started(rq);
	return 0;
}

/* For kernels without block_io_start (before 6.5): the issue may be left to a kernel thread. */
SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_block_issue, struct request *rq)
{
	block_started(rq);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_block_complete, struct request *rq, int error, unsigned int bytes)
{
	u64 key = (u64)rq;
	struct block_start *start = bpf_map_lookup_elem(&block_starts, &key);
	if (!start)
		return 0;
	struct block_slice record = {};
	u64 now = bpf_ktime_get_ns();
	struct gendisk *disk = BPF_CORE_READ(rq, q, disk);
	record.h.start = start->since;
	record.h.dur = now - start->since;
	record.h.tgid = start->tgid;
	record.h.tid = start->tid;
	record.h.kind = KIND_BLOCK;
	record.h.aux = BPF_CORE_READ(rq, cmd_flags) & 0xff;
	record.h.id = (BPF_CORE_READ(disk, major) << 20) | BPF_CORE_READ(disk, first_minor);
	record.sector = BPF_CORE_READ(rq, __sector);
	record.bytes = bytes;
	bpf_probe_read_kernel_str(&record.disk, sizeof(record.disk), disk->disk_name);
	bpf_map_delete_elem(&block_starts, &key);
	emit_rare(&record, sizeof(record), BPF_RB_NO_WAKEUP);
	return 0;
}

/* Software event PAGE_FAULTS_MAJ, period 1: fires in the thread that faulted. */
SEC("perf_event")
int on_major_fault(struct bpf_perf_event_data_prefix *ctx)
{
	if (!target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	struct fault record = {};
	u64 now = bpf_ktime_get_ns();
	fill_head(&record.h, now, now, KIND_FAULT, 0, 0);
	record.address = ctx->addr;
	emit_rare(&record, sizeof(record), BPF_RB_NO_WAKEUP);
	count_hit(HIT_FAULT, 1);
	return 0;
}
