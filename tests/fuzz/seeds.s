# The source of seeds/compile/rules: all that a rule can say, and some that none can.
#
#   gcc='gcc -nostdlib -shared -Wl,-z,noseparate-code -xassembler-with-cpp seeds.s'
#   $gcc -s -o seeds/compile/rules
#   $gcc -DDEBUG -o seeds/compile/debug_frame
#
# rules_without_sections is the first of them without e_shoff, e_shnum and e_shstrndx. The others
# are of lld, of a kernel, and of the compiler under test.

#ifdef DEBUG
    .cfi_sections .debug_frame
#endif

    .text

aligned:
    .cfi_startproc
    lea 8(%rsp), %r10
    .cfi_def_cfa r10, 0
    and $-16, %rsp
    push -8(%r10)
    push %rbp
    mov %rsp, %rbp
    # DW_CFA_expression rbp: breg6 0
    .cfi_escape 0x10, 6, 2, 0x76, 0
    push %r10
    # DW_CFA_def_cfa_expression: breg6 -8; deref
    .cfi_escape 0x0f, 3, 0x76, 0x78, 0x06
    .cfi_remember_state
    pop %r10
    .cfi_def_cfa r10, 0
    pop %rbp
    lea -8(%r10), %rsp
    .cfi_def_cfa rsp, 8
    ret
    .cfi_restore_state
    ud2
    .cfi_endproc

indexed:
    .cfi_startproc
    nop
    # breg7 16; deref; plus_uconst 8
    .cfi_escape 0x0f, 5, 0x77, 16, 0x06, 0x23, 8
    nop
    # breg7 16; breg9 0; lit8; mul; plus; deref; plus_uconst 8
    .cfi_escape 0x0f, 10, 0x77, 16, 0x79, 0, 0x38, 0x1e, 0x22, 0x06, 0x23, 8
    nop
    # breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus
    .cfi_escape 0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22
    nop
    # breg7 0; breg6 0; plus: no rule
    .cfi_escape 0x0f, 5, 0x77, 0, 0x76, 0, 0x22
    ret
    .cfi_endproc

elsewhere:
    .cfi_startproc
    nop
    .cfi_register rip, rdx
    nop
    .cfi_undefined rip
    ret
    .cfi_endproc

    .cfi_startproc
    .cfi_signal_frame
    # DW_CFA_def_cfa_expression: breg7 160; deref
    .cfi_escape 0x0f, 4, 0x77, 0xa0, 0x01, 0x06
    # rbp, rsp, rip: breg7 120, 160, 168
    .cfi_escape 0x10, 6, 3, 0x77, 0xf8, 0x00
    .cfi_escape 0x10, 7, 3, 0x77, 0xa0, 0x01
    .cfi_escape 0x10, 16, 3, 0x77, 0xa8, 0x01
    nop
    mov $15, %rax
    syscall
    .cfi_endproc

uncovered:
    nop
    mov $15, %rax
    syscall
    ret
