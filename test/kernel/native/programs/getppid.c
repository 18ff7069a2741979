/* Calls knpt_target and getppid as often as each number read from standard input says, then answers "done". */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noinline, visibility("default"))) long knpt_target(long value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

int main(void)
{
	long times, sum = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready %d\n", (int)getpid());
	while (scanf("%ld", &times) == 1) {
		for (long i = 0; i < times; i++) {
			sum += knpt_target(i);
			sum += syscall(SYS_getppid);
		}
		printf("done %ld\n", sum);
	}
	return 0;
}
