// Command go runs the recipes of the README with go-redis: what stands between
// "README begins" and "README ends" in its files is what the README shows. The
// tests start it with the name of a recipe and what that one takes; PORT is
// the proxy's.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/redis/go-redis/v9"
)

var (
	addr  = "127.0.0.1:" + os.Getenv("PORT")
	rdb   = redis.NewClient(&redis.Options{Addr: addr})
	input = bufio.NewReader(os.Stdin)
)

// programs make a recipe do something that a test can look at.
var programs = map[string]func(ctx context.Context, args []string) error{
	"add":       add,
	"claim":     runClaim,
	"dine":      dine,
	"lead":      runLead,
	"limit":     runLimit,
	"nickname":  runNickname,
	"ordered":   runOrdered,
	"patience":  patience,
	"rename":    runRename,
	"refreshed": runRefreshed,
	"report":    runReport,
	"serve":     runServe,
	"transfer":  runTransfer,
	"update":    runUpdate,
	"user":      runUser,
}

func main() {
	log.SetFlags(0)
	if err := programs[os.Args[1]](context.Background(), os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// say tells the test something and waits for its answer.
func say(words ...any) string {
	fmt.Println(words...)
	line, err := input.ReadString('\n')
	if err != nil {
		log.Fatal("the test is gone: ", err)
	}
	return line[:len(line)-1]
}

func number(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	return n
}
