// Runs a fuzz target over the files of the folders that are named, without a fuzzer: the corpus as
// a test.
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLAY_MAX = 1 << 20 };

static int replay_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    uint8_t *data = malloc(REPLAY_MAX);
    if (!data) {
        fclose(file);
        return -1;
    }
    size_t size = fread(data, 1, REPLAY_MAX, file);
    fclose(file);
    // Memory of just that size: a sanitizer sees a read beyond it.
    uint8_t *exact = realloc(data, size ? size : 1);
    printf("# %s, %zu bytes\n", name, size);
    fflush(stdout);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        struct dirent *entry;
        while (directory && (entry = readdir(directory))) {
            if (entry->d_name[0] == '.')
                continue;
            if (replay_file(argv[i], entry->d_name)) {
                perror(entry->d_name);
                return 1;
            }
            count++;
        }
        if (directory)
            closedir(directory);
    }
    printf("%sok 1 - replay of %d inputs\n1..1\n", count ? "" : "not ", count);
    return !count;
}
