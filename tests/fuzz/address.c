// Addresses: whatever is accepted prints as a text that means the same.
#include <string.h>

#include <weir.h>

#include "target.h"

enum { ADDRESS_TEXT_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[ADDRESS_TEXT_MAX], printed[WEIR_ADDRESS_TEXT_SIZE], again[WEIR_ADDRESS_TEXT_SIZE];
    struct weir_address address, second;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (weir_address_parse(text, &address))
        return 0;
    weir_address_print(&address, printed);
    fuzz_require(!weir_address_parse(printed, &second), "a printed address is refused");
    fuzz_require(address.size == second.size, "a printed address has another size");
    weir_address_print(&second, again);
    fuzz_require(!strcmp(printed, again), "a printed address means another");
    return 0;
}
