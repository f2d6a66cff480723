// The CRC-32 of standard input, as gzip and PNG have it.
#include <stdint.h>
#include <stdio.h>

int main(void) {
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0xedb88320 : table[i] >> 1;
    }
    uint32_t crc = 0xffffffff;
    unsigned char bytes[4096];
    size_t n;
    while ((n = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        for (size_t i = 0; i < n; i++)
            crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    printf("%08x\n", (unsigned)~crc);
    return ferror(stdin) ? 1 : 0;
}
