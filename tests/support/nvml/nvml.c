/* Stands in for libnvidia-ml.so.1. What its GPUs say stands in the file that AICTL_TEST_NVML names,
 * a line each: "KEY VALUE" for the library, "N.KEY VALUE" for GPU N, "*.KEY VALUE" for each; later
 * lines win. A value "!CODE" makes the call fail with NVML's code, "hang" makes it never return.
 * A key that is absent is NVML_ERROR_NOT_SUPPORTED. With -DOLD, calls of newer drivers are missing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define NOT_SUPPORTED 3
typedef long device; /* number + 1; MIG devices from 1000 on */
typedef unsigned u32;
typedef unsigned long long u64;

static struct { char key[64], value[96]; } line[4096];
static int lines;

static void load(void)
{
	char key[64], value[96];
	const char *path = getenv("AICTL_TEST_NVML");
	FILE *file = path && !lines ? fopen(path, "r") : NULL;
	if (!file)
		return;
	while (lines < 4096 && fscanf(file, "%63s %95[^\n]", key, value) == 2) {
		strcpy(line[lines].key, key);
		strcpy(line[lines++].value, value);
	}
	fclose(file);
}

/* The value of a key, or an NVML code. */
static int find(device d, const char *key, const char **value)
{
	char exact[80], any[80];
	load();
	snprintf(exact, sizeof exact, d ? "%ld.%s" : "%.0ld%s", d ? d - 1 : 0, key);
	snprintf(any, sizeof any, d ? "*.%s" : "%s", key);
	for (int i = lines - 1; i >= 0; i--) {
		if (strcmp(line[i].key, exact) && strcmp(line[i].key, any))
			continue;
		*value = line[i].value;
		if (!strcmp(*value, "hang"))
			for (;;)
				pause();
		return **value == '!' ? atoi(*value + 1) : 0;
	}
	return NOT_SUPPORTED;
}

static int text(device d, const char *key, char *out, u32 size)
{
	const char *value;
	int code = find(d, key, &value);
	if (!code)
		snprintf(out, size, "%s", value);
	return code;
}

static int number(device d, const char *key, u64 *out)
{
	const char *value;
	int code = find(d, key, &value);
	if (!code)
		*out = strtoull(value, NULL, 0);
	return code;
}

static int u(device d, const char *key, u32 *out)
{
	u64 value;
	int code = number(d, key, &value);
	if (!code)
		*out = (u32)value;
	return code;
}

/* The library */
API int nvmlInit_v2(void) { u32 x; return u(0, "init", &x); }
API int nvmlShutdown(void) { return 0; }
API int nvmlSystemGetDriverVersion(char *out, u32 n) { return text(0, "driver", out, n); }
API int nvmlSystemGetNVMLVersion(char *out, u32 n) { return text(0, "nvml", out, n); }
API int nvmlSystemGetCudaDriverVersion_v2(int *out) { return u(0, "cuda", (u32 *)out); }
API int nvmlDeviceGetCount_v2(u32 *out) { return u(0, "count", out); }
API int nvmlDeviceGetHandleByIndex_v2(u32 i, device *d)
{
	u32 x;
	*d = i + 1;
	return u(*d, "open", &x);
}

/* Who it is */
API int nvmlDeviceGetUUID(device d, char *out, u32 n)
{
	return d >= 1000 ? snprintf(out, n, "MIG-%ld", d - 1000), 0 : text(d, "uuid", out, n);
}
API int nvmlDeviceGetName(device d, char *out, u32 n) { return text(d, "name", out, n); }
API int nvmlDeviceGetSerial(device d, char *out, u32 n) { return text(d, "serial", out, n); }
API int nvmlDeviceGetArchitecture(device d, u32 *out) { return u(d, "architecture", out); }
typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char address[32]; } pci;
API int nvmlDeviceGetPciInfo_v3(device d, pci *out)
{
	memset(out, 0, sizeof *out);
	return text(d, "pci", out->address, sizeof out->address);
}
API int nvmlDeviceGetMigMode(device d, u32 *now, u32 *pending)
{
	int code = u(d, "mig", now);
	*pending = *now;
	return code;
}
API int nvmlDeviceGetMaxMigDeviceCount(device d, u32 *out) { return u(d, "mig.devices", out); }
API int nvmlDeviceGetMigDeviceHandleByIndex(device d, u32 i, device *out) { *out = 1000 + 100 * d + i; return 0; }
API int nvmlDeviceGetGpuInstanceId(device d, u32 *out) { *out = d % 100; return 0; }
API int nvmlDeviceGetComputeInstanceId(device d, u32 *out) { (void)d; *out = 0; return 0; }

/* Fields: the recovery action, the memory's temperature, what went over NVLinks */
static int of_link(device d, u32 link, const char *key, u64 *out);
typedef struct { u32 id, scope; long long at, took; u32 type, code; u64 value; } field;
API int nvmlDeviceGetFieldValues(device d, int n, field *all)
{
	for (int i = 0; i < n; i++) {
		all[i].type = 1;
		all[i].value = 0;
		all[i].code = NOT_SUPPORTED;
#ifndef OLD
		if (all[i].id == 230)
			all[i].code = u(d, "recovery", (u32 *)&all[i].value);
		if (all[i].id == 82)
			all[i].code = u(d, "memory.temperature", (u32 *)&all[i].value);
		if (all[i].id == 138 || all[i].id == 139) {
			const char *key = all[i].id == 138 ? "tx.kib" : "rx.kib";
			char sum[32];
			snprintf(sum, sizeof sum, "links.%s", key);
			all[i].type = 3;
			all[i].code = all[i].scope == ~0u ? number(d, sum, &all[i].value) : of_link(d, all[i].scope, key, &all[i].value);
		}
#endif
	}
	return 0;
}

/* Memory */
API int nvmlDeviceGetEccMode(device d, u32 *now, u32 *pending)
{
	int code = u(d, "ecc", now);
	*pending = *now;
	return code;
}
API int nvmlDeviceGetDefaultEccMode(device d, u32 *out) { return u(d, "ecc.default", out); }
API int nvmlDeviceGetTotalEccErrors(device d, u32 uncorrected, u32 life, u64 *out)
{
	static const char *key[2][2] = {{"ecc.corrected", "ecc.corrected.life"}, {"ecc.uncorrected", "ecc.uncorrected.life"}};
	return number(d, key[uncorrected & 1][life & 1], out);
}
#ifndef OLD
typedef struct { u32 version; u64 counts[11]; u32 exceeded; } sram;
API int nvmlDeviceGetSramEccErrorStatus(device d, sram *out)
{
	return out->version == (sizeof *out | 1u << 24) ? u(d, "ecc.sram", &out->exceeded) : 25;
}
API int nvmlDeviceGetRemappedRows(device d, u32 *cor, u32 *unc, u32 *pending, u32 *failure)
{
	int code = u(d, "rows.corrected", cor);
	if (!code)
		code = u(d, "rows.uncorrected", unc);
	if (!code)
		code = u(d, "rows.pending", pending);
	return code ? code : u(d, "rows.failure", failure);
}
typedef struct { u32 max, high, partial, low, none; } banks;
API int nvmlDeviceGetRowRemapperHistogram(device d, banks *out)
{
	memset(out, 0, sizeof *out);
	return u(d, "banks.none", &out->none);
}
typedef struct { u32 version; unsigned char cluster[16]; u32 status, clique; unsigned char state; u32 health; } fabric;
API int nvmlDeviceGetGpuFabricInfoV(device d, fabric *out)
{
	u32 state;
	if (out->version != (sizeof *out | 2u << 24))
		return 25;
	int code = u(d, "fabric.state", &state);
	out->state = (unsigned char)state;
	if (!code)
		code = u(d, "fabric.status", &out->status);
	return code ? code : u(d, "fabric.health", &out->health);
}
#endif
API int nvmlDeviceGetRetiredPages(device d, u32 cause, u32 *n, u64 *out)
{
	(void)out;
	return u(d, cause ? "pages.uncorrected" : "pages.corrected", n);
}
API int nvmlDeviceGetRetiredPages_v2(device d, u32 cause, u32 *n, u64 *out, u64 *when)
{
	(void)when;
	return nvmlDeviceGetRetiredPages(d, cause, n, out);
}
API int nvmlDeviceGetRetiredPagesPendingStatus(device d, u32 *out) { return u(d, "pages.pending", out); }
API int nvmlDeviceValidateInforom(device d) { u32 x; return u(d, "inforom", &x); }
typedef struct { u32 version; u64 total, reserved, free, used; } memory;
API int nvmlDeviceGetMemoryInfo_v2(device d, memory *out)
{
	int code = number(d, "memory.total", &out->total);
	out->reserved = 0;
	number(d, "memory.reserved", &out->reserved);
	if (!code)
		code = number(d, "memory.used", &out->used);
	out->free = out->total - out->reserved - out->used;
	return code;
}

/* Links */
static int of_link(device d, u32 link, const char *key, u64 *out)
{
	char one[48], all[48];
	u32 links = 0;
	u(d, "links", &links);
	if (link >= links)
		return NOT_SUPPORTED;
	snprintf(one, sizeof one, "link%u.%s", link, key);
	snprintf(all, sizeof all, "link.%s", key);
	int code = number(d, one, out);
	return code == NOT_SUPPORTED ? number(d, all, out) : code;
}
API int nvmlDeviceGetNvLinkState(device d, u32 link, u32 *out)
{
	u64 value = 0;
	int code = of_link(d, link, "up", &value);
	*out = (u32)value;
	return code;
}
API int nvmlDeviceGetNvLinkErrorCounter(device d, u32 link, u32 counter, u64 *out)
{
	return counter == 2 ? of_link(d, link, "crc", out) : NOT_SUPPORTED;
}
API int nvmlDeviceGetNvLinkRemoteDeviceType(device d, u32 link, u32 *out)
{
	u64 value = 0;
	int code = of_link(d, link, "end", &value); /* 0 a GPU, 2 a switch */
	*out = (u32)value;
	return code;
}
API int nvmlDeviceGetNvLinkRemotePciInfo_v2(device d, u32 link, pci *out)
{
	char key[48];
	memset(out, 0, sizeof *out);
	snprintf(key, sizeof key, "link%u.pci", link);
	return text(d, key, out->address, sizeof out->address);
}
API int nvmlDeviceGetCurrPcieLinkWidth(device d, u32 *out) { return u(d, "pcie.width", out); }
API int nvmlDeviceGetMaxPcieLinkWidth(device d, u32 *out) { return u(d, "pcie.width.max", out); }
API int nvmlDeviceGetCurrPcieLinkGeneration(device d, u32 *out) { return u(d, "pcie.gen", out); }
API int nvmlDeviceGetMaxPcieLinkGeneration(device d, u32 *out) { return u(d, "pcie.gen.max", out); }
API int nvmlDeviceGetPcieReplayCounter(device d, u32 *out) { return u(d, "pcie.replays", out); }

/* Pace */
API int nvmlDeviceGetCurrentClocksThrottleReasons(device d, u64 *out) { return number(d, "reasons", out); }
API int nvmlDeviceGetClockInfo(device d, u32 type, u32 *out) { return u(d, type == 1 ? "sm" : type == 3 ? "video" : "mem", out); }
API int nvmlDeviceGetMaxClockInfo(device d, u32 type, u32 *out) { return u(d, type == 1 ? "sm.max" : "mem.max", out); }
API int nvmlDeviceGetPerformanceState(device d, u32 *out) { return u(d, "pstate", out); }
typedef struct { u32 gpu, memory; } load_of;
API int nvmlDeviceGetUtilizationRates(device d, load_of *out)
{
	out->memory = 0;
	u(d, "load.memory", &out->memory);
	return u(d, "load", &out->gpu);
}
static int engine(device d, const char *key, u32 *out, u32 *period) { *period = 167000; return u(d, key, out); }
API int nvmlDeviceGetEncoderUtilization(device d, u32 *out, u32 *period) { return engine(d, "load.encoder", out, period); }
API int nvmlDeviceGetDecoderUtilization(device d, u32 *out, u32 *period) { return engine(d, "load.decoder", out, period); }
API int nvmlDeviceGetJpgUtilization(device d, u32 *out, u32 *period) { return engine(d, "load.jpeg", out, period); }
API int nvmlDeviceGetOfaUtilization(device d, u32 *out, u32 *period) { return engine(d, "load.ofa", out, period); }
typedef struct { u64 at, ns; } violation;
API int nvmlDeviceGetViolationStatus(device d, u32 policy, violation *out)
{
	out->at = 0;
	return policy > 1 ? NOT_SUPPORTED : number(d, policy ? "violation.thermal" : "violation.power", &out->ns);
}
API int nvmlDeviceGetPowerManagementLimit(device d, u32 *out) { return u(d, "power.limit.set", out); }
API int nvmlDeviceGetTotalEnergyConsumption(device d, u64 *out) { return number(d, "energy", out); }
API int nvmlDeviceGetFanSpeed_v2(device d, u32 fan, u32 *out) { return fan ? NOT_SUPPORTED : u(d, "fan", out); }
API int nvmlDeviceGetPcieThroughput(device d, u32 way, u32 *out) { return u(d, way ? "pcie.rx" : "pcie.tx", out); }
API int nvmlDeviceGetComputeMode(device d, u32 *out) { return u(d, "compute", out); }
typedef struct { u64 total, free, used; } window;
API int nvmlDeviceGetBAR1MemoryInfo(device d, window *out)
{
	int code = number(d, "bar1.total", &out->total);
	if (!code)
		code = number(d, "bar1.used", &out->used);
	out->free = out->total - out->used;
	return code;
}
API int nvmlDeviceGetTemperature(device d, u32 sensor, u32 *out) { (void)sensor; return u(d, "temperature", out); }
API int nvmlDeviceGetTemperatureThreshold(device d, u32 kind, u32 *out)
{
	return kind > 1 ? NOT_SUPPORTED : u(d, kind ? "slowdown" : "shutdown", out);
}
API int nvmlDeviceGetPowerUsage(device d, u32 *out) { return u(d, "power", out); }
API int nvmlDeviceGetEnforcedPowerLimit(device d, u32 *out) { return u(d, "power.limit", out); }
API int nvmlDeviceGetPersistenceMode(device d, u32 *out) { return u(d, "persistence", out); }

/* Events: lines "GPU XID [INSTANCE COMPUTE]" of the file that AICTL_TEST_NVML_EVENTS names, as they come */
typedef struct { device d; u64 type, data; u32 instance, compute; } event;
static char registered[64];
API int nvmlEventSetCreate(void **set) { static int one; *set = &one; u32 x; int code = u(0, "events", &x); return code == NOT_SUPPORTED ? 0 : code; }
API int nvmlEventSetFree(void *set) { (void)set; return 0; }
API int nvmlDeviceRegisterEvents(device d, u64 types, void *set)
{
	u32 x;
	int code = u(d, "events", &x);
	(void)set;
	if (code && code != NOT_SUPPORTED)
		return code;
	registered[d - 1] = (types & 8) != 0;
	return 0;
}
API int nvmlEventSetWait_v2(void *set, event *out, u32 timeout_ms)
{
	static long told;
	(void)set;
	for (u32 waited = 0; waited <= timeout_ms; waited += 10) {
		const char *path = getenv("AICTL_TEST_NVML_EVENTS");
		FILE *file = path ? fopen(path, "r") : NULL;
		char words[128];
		long number = 0;
		while (file && fgets(words, sizeof words, file)) {
			u32 gpu, xid, instance = ~0u, compute = ~0u;
			if (!strchr(words, '\n') || number++ < told)
				continue;
			told++;
			if (sscanf(words, "%u %u %u %u", &gpu, &xid, &instance, &compute) < 2 || !registered[gpu])
				continue;
			fclose(file);
			*out = (event){gpu + 1, 8, xid, instance, compute};
			return 0;
		}
		if (file)
			fclose(file);
		usleep(10000);
	}
	return 10;
}

/* Processes: "process PID BYTES SM", one a GPU at most */
typedef struct { u32 pid; u64 used; u32 instance, compute; } process;
API int nvmlDeviceGetComputeRunningProcesses_v3(device d, u32 *n, process *out)
{
	const char *value;
	u32 room = *n, pid = 0, sm;
	u64 used = 0;
	*n = 0;
	if (find(d, "process", &value) || sscanf(value, "%u %llu %u", &pid, &used, &sm) != 3)
		return 0;
	*n = 1;
	if (!room)
		return 7;
	*out = (process){pid, used, ~0u, ~0u};
	return 0;
}
API int nvmlDeviceGetGraphicsRunningProcesses_v3(device d, u32 *n, process *out) { (void)d; (void)out; *n = 0; return 0; }
typedef struct { u32 pid; u64 at; u32 sm, memory, encoder, decoder; } process_load;
API int nvmlDeviceGetProcessUtilization(device d, process_load *out, u32 *n, u64 since)
{
	const char *value;
	u32 pid, sm, room = *n;
	u64 used;
	*n = 0;
	if (find(d, "process", &value) || sscanf(value, "%u %llu %u", &pid, &used, &sm) != 3)
		return 6;
	*n = 1;
	if (!room || !out)
		return 7;
	*out = (process_load){pid, since + 1, sm, 12, 0, 0};
	return 0;
}
