/* A child takes all of the memory that there is, and is killed for it; its parent, which has what it needs, goes on. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int greedy(void)
{
	int status;
	pid_t child = fork();
	if (!child) {
		size_t size = (size_t)1 << 30;
		char *all = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		for (size_t at = 0; at < size; at += 4096)
			all[at] = 1;
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child)
		abort();
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

int main(void)
{
	for (int turn = 0; turn < 3; turn++)
		printf("killed by %d\n", greedy()), fflush(stdout);
	return 0;
}
