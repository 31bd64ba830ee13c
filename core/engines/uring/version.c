// What was built: the only text that names liburing's version, so it lives where liburing is seen.
#include <liburing.h>

#include "../../weir.h"

#define VERSION_TEXT(number) VERSION_QUOTE(number)
#define VERSION_QUOTE(number) #number

const char *weir_version_text(void)
{
    return "weir " WEIR_VERSION " (engines: uring, epoll, blocking; liburing " VERSION_TEXT(
        IO_URING_VERSION_MAJOR) "." VERSION_TEXT(IO_URING_VERSION_MINOR) ")";
}
