/* Prints a small hash of its argument; index.js has the same in JavaScript. */
#include <stdint.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	uint32_t sum = 5381;

	if (argc != 2)
		return 2;
	for (const unsigned char *byte = (const unsigned char *)argv[1]; *byte; byte++)
		sum = sum * 33 ^ *byte;
	printf("%08x\n", sum);
	return 0;
}
