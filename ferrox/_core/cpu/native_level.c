/* Run by the build for -Dlevels=native. */
#include <stdio.h>

#include "fx/cpu_level.h"

int main(void) {
    return printf("v%d", fx_cpu_level()) < 0;
}
