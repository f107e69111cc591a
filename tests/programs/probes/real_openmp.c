/* OpenMP: reductions, schedules, tasks, sections, critical and ordered parts, more threads than processors. */
#include <omp.h>
#include <stdio.h>

static long fib(int n)
{
	long a, b;
	if (n < 2)
		return n;
#pragma omp task shared(a) if (n > 10)
	a = fib(n - 1);
#pragma omp task shared(b) if (n > 10)
	b = fib(n - 2);
#pragma omp taskwait
	return a + b;
}

int main(void)
{
	long sum = 0, counted = 0, result = 0, parts = 0;
	int seen[64] = {0}, total = 0;
#pragma omp parallel for num_threads(4) schedule(dynamic, 100) reduction(+ : sum)
	for (long i = 0; i < 100000; i++)
		sum += i * i % 7;
#pragma omp parallel num_threads(64)
	{
		seen[omp_get_thread_num()]++;
#pragma omp barrier
#pragma omp critical
		counted += seen[(omp_get_thread_num() + 1) % 64];
	}
#pragma omp parallel num_threads(4)
#pragma omp single
	result = fib(15);
#pragma omp parallel for num_threads(3) ordered schedule(static, 1)
	for (int i = 0; i < 5; i++) {
#pragma omp ordered
		printf("%d ", i);
	}
#pragma omp parallel sections num_threads(2) reduction(+ : parts)
	{
#pragma omp section
		parts += 1;
#pragma omp section
		parts += 2;
	}
	for (int i = 0; i < 64; i++)
		total += seen[i];
	printf("%ld %ld %ld %ld %d\n", sum, counted, result, parts, total);
}
