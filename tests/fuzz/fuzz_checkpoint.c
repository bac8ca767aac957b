/*
 * fuzz_checkpoint.c - any bytes as a safetensors file: refused with a sentence, or tensors that lie
 * within the file and can be read.
 *
 * An input whose first byte is 'h' is a header (its length is put in front) followed by as many
 * bytes of data as the second byte says; any other input is the file as it is.
 */
#include "common/check.h"
#include "common/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static int memory_file(const unsigned char *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0);
    if (size >= 2 && data[0] == 'h') {
        uint64_t length = size - 2;
        static const unsigned char zeros[256];
        CHECK(write(fd, &length, sizeof length) == (ssize_t)sizeof length); /* little-endian here */
        CHECK(write(fd, data + 2, size - 2) == (ssize_t)(size - 2));
        CHECK(write(fd, zeros, data[1]) == data[1]);
    } else {
        CHECK(write(fd, data, size) == (ssize_t)size);
    }
    return fd;
}

static void hold_to_promises(const checkpoint *c)
{
    for (size_t i = 0; i < checkpoint_count(c); i++) {
        const checkpoint_tensor *t = checkpoint_at(c, i);
        CHECK(checkpoint_find(c, t->name) == t);
        CHECK(t->n_bytes == t->n_elements * tensor_dtype_bytes(t->dtype));
        unsigned char *bytes = malloc((size_t)t->n_bytes + 1); /* no more than the file has */
        CHECK(bytes != NULL);
        flo_err err = {{0}};
        CHECK(checkpoint_read(c, t, 0, bytes, (size_t)t->n_bytes, &err) == FLO_OK);
        free(bytes);
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memory_file(data, size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    checkpoint *c = NULL;
    flo_err err = {{0}};
    if (checkpoint_open_file(&c, path, &err) == FLO_OK) {
        hold_to_promises(c);
        checkpoint_close(c);
    } else {
        CHECK(err.text[0] != '\0');
    }
    close(fd);
    return 0;
}
