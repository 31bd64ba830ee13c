// replay FILE-OR-FOLDER...: runs a target over files, as ordinary tests; prints TAP.
#include <dirent.h>
#include <string.h>

#include "target.h"

enum { REPLAY_SIZE_MAX = 1 << 20, REPLAY_PATH_MAX = 4096 };

static unsigned replay_count;

// The bytes lie at the end of their allocation, so that a sanitizer sees who reads beyond.
static void replay_file(const char *path, const char *name)
{
    static uint8_t bytes[REPLAY_SIZE_MAX];
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file)
        fclose(file);
    uint8_t *exact = malloc(size ? size : 1);
    if (!file || !exact) {
        printf("not ok %u - %s cannot be read\n", ++replay_count, name);
        exit(1);
    }
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    printf("ok %u - %s\n", ++replay_count, name);
    fflush(stdout);
}

static void replay_folder(const char *folder)
{
    struct dirent **entries;
    char path[REPLAY_PATH_MAX];
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (name[0] != '.')
            replay_file(path, name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay_folder(argv[i]);
    printf("1..%u\n", replay_count);
    return replay_count ? 0 : 1;
}
