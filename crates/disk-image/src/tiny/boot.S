# The boot sector of the tiny guest: copies the areas of the disk named in its table into memory through the BIOS and
# enters Linux's real-mode setup code (Documentation/arch/x86/boot.rst). The builder fills in the table and has already
# written what a boot loader has to write into the setup header.
#
#   as --32 boot.S -o boot.o && objcopy -O binary -j .text boot.o boot.bin      (440 bytes; a test compares)

	.code16
	.intel_syntax noprefix
	.text
	.equ ORIGIN, 0x7c00
	.equ BOUNCE, 0x3000		# segment of the 32 KiB buffer that the BIOS reads into
	.equ SECTORS, 64		# of 512 bytes: how much one step copies
start:
	cli
	xor	ax, ax
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	sp, ORIGIN
	sti
	cld
	mov	si, offset table - start + ORIGIN
area:					# table entry: first sector (4), steps (2), physical address (4)
	mov	cx, [si + 4]
	jcxz	enter_linux
	mov	eax, [si]
	mov	[packet - start + ORIGIN + 8], eax
	mov	ebx, [si + 6]
	add	si, 10
	push	si
step:
	push	cx
	push	ebx
	mov	ah, 0x42		# extended read; DL is still the boot drive
	mov	si, offset packet - start + ORIGIN
	push	dx
	int	0x13
	pop	dx
	jc	fail
	pop	ebx
	push	ebx
	mov	[to - start + ORIGIN + 2], bx
	shr	ebx, 16
	mov	[to - start + ORIGIN + 4], bl
	mov	[to - start + ORIGIN + 7], bh
	mov	cx, SECTORS * 256	# words
	mov	si, offset descriptors - start + ORIGIN
	push	dx
	mov	ah, 0x87		# copy to extended memory
	int	0x15
	pop	dx
	jc	fail
	pop	ebx
	add	ebx, SECTORS * 512
	add	dword ptr [packet - start + ORIGIN + 8], SECTORS
	pop	cx
	loop	step
	pop	si
	jmp	area
enter_linux:
	cli
	mov	ax, 0x1000
	mov	ds, ax
	mov	es, ax
	mov	fs, ax
	mov	gs, ax
	mov	ss, ax
	mov	sp, 0xe000
	.byte	0xea			# jmp 0x1020:0
	.word	0, 0x1020
fail:
	mov	si, offset message - start + ORIGIN
print:
	lodsb
	test	al, al
	jz	halt
	mov	ah, 0x0e
	mov	bx, 7
	int	0x10
	jmp	print
halt:
	hlt
	jmp	halt
message:
	.asciz	"disk error"
	.balign 8
packet:
	.byte	16, 0
	.word	SECTORS, 0, BOUNCE
	.quad	0
descriptors:
	.quad	0, 0
from:
	.word	0xffff, (BOUNCE << 4) & 0xffff
	.byte	(BOUNCE >> 12), 0x93, 0x00, 0x00
to:
	.word	0xffff, 0
	.byte	0, 0x93, 0x00, 0x00
	.quad	0, 0
	.org	400
table:					# four entries of ten bytes at most, ended by one without steps
	.fill	40, 1, 0
