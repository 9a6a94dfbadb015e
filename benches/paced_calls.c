/* Makes system calls at a steady rate from two threads, for benches/throughput.py.
 * Usage: paced_calls CALLS_PER_SECOND SECONDS; prints how many it made. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double rate, seconds;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *work(void *made)
{
	double start = now(), end = start + seconds;
	long count = 0;
	for (double t = start; t < end; t = now()) {
		long due = (long)((t - start) * rate / 2);
		for (; count < due; count++)
			syscall(SYS_getppid);
		struct timespec pause = { 0, 1000000 };
		nanosleep(&pause, NULL);
	}
	*(long *)made = count;
	return NULL;
}

int main(int argc, char **argv)
{
	rate = argc > 1 ? atof(argv[1]) : 200000;
	seconds = argc > 2 ? atof(argv[2]) : 10;
	pthread_t threads[2];
	long made[2] = { 0, 0 };
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, work, &made[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("%ld\n", made[0] + made[1]);
	return 0;
}
