// Goroutines, channels, a mutex, a wait group, a timer, the collector of garbage, a child.
package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

func main() {
	work, found := make(chan int), make(chan int, 10)
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			sum := 0
			for n := range work {
				sum += len(make([]byte, n*100)) / 100
			}
			found <- sum
		}()
	}
	for i := 0; i < 2000; i++ {
		work <- i
	}
	close(work)
	all.Wait()
	runtime.GC()
	total := 0
	for i := 0; i < 8; i++ {
		total += <-found
	}
	select {
	case <-time.After(20 * time.Millisecond):
		fmt.Println("timer")
	case <-found:
		fmt.Println("too many")
	}
	out, err := exec.Command("echo", "child").Output()
	fmt.Println(total, string(out), err)
}
