// See ascii.h. Runs without a line end are copied as a whole.
#include "ascii.h"

#include <string.h>

size_t ftp_ascii_encode(struct ftp_ascii *ascii, const char *data, size_t size, char *ret_data)
{
    char *out = ret_data;
    while (size) {
        const char *feed = memchr(data, '\n', size);
        size_t run = feed ? (size_t)(feed - data) : size;
        if (run) {
            memcpy(out, data, run);
            out += run;
            ascii->carriage_return = data[run - 1] == '\r';
        }
        data += run;
        size -= run;
        if (!feed)
            break;
        if (!ascii->carriage_return)
            *out++ = '\r';
        *out++ = '\n';
        ascii->carriage_return = false;
        data++;
        size--;
    }
    return (size_t)(out - ret_data);
}

size_t ftp_ascii_decode(struct ftp_ascii *ascii, const char *data, size_t size, char *ret_data)
{
    char *out = ret_data;
    while (size) {
        if (ascii->carriage_return && *data != '\n')
            *out++ = '\r';
        ascii->carriage_return = false;
        const char *carriage_return = memchr(data, '\r', size);
        size_t run = carriage_return ? (size_t)(carriage_return - data) : size;
        memcpy(out, data, run);
        out += run;
        data += run;
        size -= run;
        if (!carriage_return)
            break;
        ascii->carriage_return = true;
        data++;
        size--;
    }
    return (size_t)(out - ret_data);
}

size_t ftp_ascii_decode_end(struct ftp_ascii *ascii, char *ret_data)
{
    bool waits = ascii->carriage_return;
    ascii->carriage_return = false;
    if (waits)
        *ret_data = '\r';
    return waits;
}
