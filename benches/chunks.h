/*
 * What the programs of the benches share: the clock, and the median over nine chunks, which
 * a single disturbance does not move.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHUNKS 9

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* `cost` returns the nanoseconds that a number of times took; prints the median of one. */
static void print_median(double (*cost)(long times), long count)
{
	double chunk[CHUNKS];
	long each = count / CHUNKS > 0 ? count / CHUNKS : 1;

	for (int i = 0; i < CHUNKS; i++)
		chunk[i] = cost(each) / each;
	qsort(chunk, CHUNKS, sizeof chunk[0], ascending);
	printf("%.1f\n", chunk[CHUNKS / 2]);
}
