/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* System calls: all counted, the long ones as slices; files by path and bytes. */
#pragma once
#include "sched.bpf.h"
#include "python.bpf.h"

struct call_key {
	u32 tgid;
	u32 nr;
};
struct call_total {
	u64 count;
	u64 ns;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct call_key);
	__type(value, struct call_total);
} call_totals SEC(".maps");

enum file_op { FILE_READ = 1, FILE_WRITE = 2, FILE_SYNC = 3 };
struct file_key {
	u64 file;
	u32 tgid;
	u32 op;
};
struct file_total {
	u64 count;
	u64 bytes;
	u64 ns;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct file_total);
} file_totals SEC(".maps");

/* Files whose path user space has been told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u8);
} told_paths SEC(".maps");

/* What a call does with the descriptor in its first argument. */
static __always_inline u32 file_op_of(u32 nr)
{
	switch (nr) {
	case 0: case 17: case 19: case 295: case 327: return FILE_READ;   /* read, pread64, readv, preadv, preadv2 */
	case 40: return FILE_WRITE;                                      /* sendfile: the socket or file written to */
	case 1: case 18: case 20: case 296: case 328: return FILE_WRITE; /* write, pwrite64, writev, pwritev, pwritev2 */
	case 74: case 75: case 277: return FILE_SYNC;                    /* fsync, fdatasync, sync_file_range */
	}
	return 0;
}

/* Other calls whose first argument is a descriptor worth naming: sockets, polling. */
static __always_inline bool names_descriptor(u32 nr)
{
	switch (nr) {
	case 42: case 43: case 44: case 45: case 46: case 47: case 288: case 72: case 73: case 16: return true;
	}
	return false;
}

struct walk {
	struct path_event *event;
	struct dentry *dentry;
	struct mount *mount;
	u32 at;
};

/* One component; a mount's root goes on at the place it is mounted. */
static long walk_step(u64 i, struct walk *w)
{
	/* Locals, since BPF_CORE_READ would relocate the members of struct walk as well. */
	struct dentry *dentry = w->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = w->mount;
	struct dentry *root = BPF_CORE_READ(mount, mnt.mnt_root);
	if (dentry == root || dentry == parent) {
		struct mount *up = BPF_CORE_READ(mount, mnt_parent);
		if (dentry != root || up == mount)
			return 1;
		w->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		w->mount = up;
		return 0;
	}
	u32 at = w->at;
	if (at >= PATH_TEXT - 256)
		return 1;
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	long n = bpf_probe_read_kernel_str(&w->event->text[at], 256, name);
	if (n <= 0)
		return 1;
	w->at = at + n;
	w->event->h.aux++;
	w->dentry = parent;
	return 0;
}

/* Key of the file behind a descriptor: device and inode. Tells user space its path once. */
static __always_inline u64 file_key_of(u32 fd)
{
	struct file *file = file_of(bpf_get_current_task_btf(), fd);
	if (!file)
		return 0;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	u64 key = ((u64)BPF_CORE_READ(inode, i_sb, s_dev) << 44) ^ BPF_CORE_READ(inode, i_ino);
	if (!key)
		key = 1;
	if (bpf_map_lookup_elem(&told_paths, &key))
		return key;
	struct path_event *event = bpf_ringbuf_reserve(&rare, sizeof(*event), 0);
	if (!event) {
		count_lost(LOST_RARE);
		return key;
	}
	u64 now = bpf_ktime_get_ns();
	fill_head(&event->h, now, now, KIND_PATH, BPF_CORE_READ(inode, i_mode), 0);
	event->h.dur = BPF_CORE_READ(inode, i_ino);
	event->file = key;
	event->fd = fd;
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct walk w = {
		.event = event,
		.dentry = BPF_CORE_READ(file, f_path.dentry),
		.mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt),
	};
	bpf_loop(PATH_PARTS, walk_step, &w, 0);
	event->len = w.at;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	u8 one = 1;
	bpf_map_update_elem(&told_paths, &key, &one, BPF_ANY);
	return key;
}

static __always_inline void add_call(u32 tgid, u32 nr, u64 ns)
{
	struct call_key key = { tgid, nr };
	struct call_total *total = bpf_map_lookup_elem(&call_totals, &key);
	if (total) {
		total->count++;
		total->ns += ns;
		return;
	}
	struct call_total first = { 1, ns };
	if (bpf_map_update_elem(&call_totals, &key, &first, BPF_NOEXIST))
		count_lost(LOST_UNPAIRED);
}

static __always_inline void add_file(u64 file, u32 tgid, u32 op, u64 bytes, u64 ns)
{
	struct file_key key = { file, tgid, op };
	struct file_total *total = bpf_map_lookup_elem(&file_totals, &key);
	if (total) {
		total->count++;
		total->bytes += bytes;
		total->ns += ns;
		return;
	}
	struct file_total first = { 1, bytes, ns };
	/* Full: the slices still tell of it. */
	bpf_map_update_elem(&file_totals, &key, &first, BPF_NOEXIST);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long nr)
{
	u64 both = bpf_get_current_pid_tgid();
	if (nr < 0 || nr > 1024 || !target_of(both >> 32))
		return 0;
	struct thread_state *t = state_of(bpf_get_current_task_btf());
	if (!t)
		return 0;
	t->sys_nr = nr + 1;
	t->sys_args[0] = BPF_CORE_READ(regs, di);
	t->sys_args[1] = BPF_CORE_READ(regs, si);
	t->sys_args[2] = BPF_CORE_READ(regs, dx);
	t->sys_since = bpf_ktime_get_ns();
	return 0;
}

enum { SYS_MMAP = 9, SYS_MPROTECT = 10, PROT_EXEC = 4 };

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	u64 both = bpf_get_current_pid_tgid();
	u32 tgid = both >> 32;
	if (!target_of(tgid))
		return 0;
	struct thread_state *t = state_of(bpf_get_current_task_btf());
	struct settings *s = get_settings();
	if (!t || !s || !t->sys_nr)
		return 0;
	u64 now = bpf_ktime_get_ns(), start = t->sys_since;
	u64 ns = now > start ? now - start : 0;
	u32 nr = t->sys_nr - 1;
	t->sys_nr = 0;
	count_hit(HIT_SYSCALL, 1);
	if ((nr == SYS_MMAP || nr == SYS_MPROTECT) && (t->sys_args[2] & PROT_EXEC)) {
		struct head h;
		fill_head(&h, now, now, KIND_MAPPED, 0, 0);
		emit_rare(&h, sizeof(h), BPF_RB_NO_WAKEUP);
	}
	if (s->layers & LAYER_SYSCALL)
		add_call(tgid, nr, ns);
	u32 op = file_op_of(nr);
	u64 file = 0;
	bool is_long = ns >= s->syscall_threshold;
	if ((op && (s->layers & LAYER_IO)) || (is_long && (op || names_descriptor(nr))))
		file = file_key_of(t->sys_args[0]);
	if (file && op && ret >= 0 && (s->layers & LAYER_IO))
		add_file(file, tgid, op, op == FILE_SYNC ? 0 : ret, ns);
	if (is_long && ((s->layers & LAYER_SYSCALL) || (op && (s->layers & LAYER_IO)))) {
		struct syscall_slice record = {};
		fill_head(&record.h, start, now, KIND_SYSCALL, nr, 0);
		record.ret = ret;
		record.arg0 = t->sys_args[0];
		record.arg1 = t->sys_args[1];
		record.file = file;
		emit_slice(&record, sizeof(record));
	}
	if (ns >= s->wait_stack_threshold && (s->layers & LAYER_PYTHON))
		python_wait_stack(start, now, tgid);
	return 0;
}
