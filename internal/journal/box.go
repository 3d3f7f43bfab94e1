package journal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	saltSize = 16 // how many random bytes make one file different from all others
	nameSize = 16
)

// What argon2id takes to make a key of a passphrase, once when a file is opened: about a tenth of
// a second and, for that long, 64 MiB. It is what RFC 9106 and golang.org/x/crypto suggest, and
// belongs to the format: a file that said it for itself could ask for any amount.
const (
	kdfPasses  = 1
	kdfMemory  = 64 << 10 // KiB
	kdfThreads = 4
)

var errUnfit = errors.New("it is not what was written there")

// A box is what the records of one file are kept in. With a passphrase they are sealed with
// XChaCha20-Poly1305, without one they carry a checksum. Either way a record is bound to the
// file, the bucket and the key that it stands under, and is found to be damaged anywhere else.
type box struct {
	salt []byte
	aead cipher.AEAD // nil: not sealed
	mac  hash.Hash   // makes what stands in the clear for names; of whoever writes the file
}

func newBox(salt []byte, passphrase string) (*box, error) {
	if passphrase == "" {
		return &box{salt: salt, mac: hmac.New(sha256.New, salt)}, nil
	}
	key := argon2.IDKey([]byte(passphrase), salt, kdfPasses, kdfMemory, kdfThreads, chacha20poly1305.KeySize+sha256.Size)
	aead, err := chacha20poly1305.NewX(key[:chacha20poly1305.KeySize])
	return &box{salt: salt, aead: aead, mac: hmac.New(sha256.New, key[chacha20poly1305.KeySize:])}, err
}

// name returns what a room's key is found under: of one length, and no name to whoever has not the passphrase.
func (b *box) name(n name) []byte {
	var w writer
	w.text(n.room)
	w.text(n.key)
	b.mac.Reset()
	b.mac.Write(w)
	return b.mac.Sum(nil)[:nameSize]
}

// place names where a record stands.
func (b *box) place(bucket string, key []byte) []byte {
	w := make(writer, 0, len(b.salt)+len(bucket)+len(key)+3*binary.MaxVarintLen32)
	w.bytes(b.salt)
	w.text(bucket)
	w.bytes(key)
	return w
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(parts ...[]byte) []byte {
	var sum uint32
	for _, part := range parts {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return binary.BigEndian.AppendUint32(nil, sum)
}

// seal returns what to write to the file for a record. It may use the room behind that.
func (b *box) seal(bucket string, key, record []byte) []byte {
	place := b.place(bucket, key)
	if b.aead == nil {
		return append(record, checksum(place, record)...)
	}
	nonce := make([]byte, b.aead.NonceSize(), b.aead.NonceSize()+len(record)+b.aead.Overhead())
	rand.Read(nonce) // never fails: it ends the process instead
	return b.aead.Seal(nonce, nonce, record, place)
}

// open returns the record that raw was made of, in memory of its own.
func (b *box) open(bucket string, key, raw []byte) ([]byte, error) {
	place := b.place(bucket, key)
	if b.aead == nil {
		size := len(raw) - crc32.Size
		if size < 0 || string(checksum(place, raw[:size])) != string(raw[size:]) {
			return nil, errUnfit
		}
		return append([]byte{}, raw[:size]...), nil
	}
	size := b.aead.NonceSize()
	if len(raw) < size {
		return nil, errUnfit
	}
	record, err := b.aead.Open([]byte{}, raw[:size], raw[size:], place)
	if err != nil {
		return nil, errUnfit
	}
	return record, nil
}
