/* Preloaded under bochscpu: what its wheel wants of glibc 2.38, and the A20 line that it stubs by aborting. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(text, format, arguments);
    va_end(arguments);
    return count;
}

int _ZN14bx_pc_system_c14get_enable_a20Ev(void *system) { (void)system; return 1; }
